-- What readiness looks at: the schema's version, the lanes there are and that there should be, those
-- that are halted, and those that another client's open transaction holds.
SELECT (SELECT max(version) FROM schema_migrations) AS schema_version,
       count(*) AS lanes_known, coalesce(max(partitions_total), 0) AS lanes_total,
       array_agg(lane ORDER BY lane) FILTER (WHERE halted IS NOT NULL) AS lanes_halted,
       array_agg(lane ORDER BY lane) FILTER (WHERE held_since IS NOT NULL) AS lanes_held
FROM lanes
