-- What only the filling needed.
DROP FUNCTION fill_months(integer);
DROP FUNCTION fill_instant(double precision);
DROP TABLE fill_instants;
