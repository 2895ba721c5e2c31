-- Tables of this session alone that stand before the real ones of the same name: whatever the
-- consumer's statements read and write in it is theirs, and gone with the session.
CREATE TEMP TABLE candidates (LIKE public.candidates INCLUDING ALL);
CREATE TEMP TABLE candidate_names (LIKE public.candidate_names INCLUDING ALL);
CREATE TEMP TABLE lanes (LIKE public.lanes INCLUDING ALL);
CREATE TEMP TABLE dead_letters (LIKE public.dead_letters INCLUDING ALL);
CREATE TEMP TABLE erasures (LIKE public.erasures INCLUDING ALL);
CREATE TEMP TABLE bulk_operations (LIKE public.bulk_operations INCLUDING ALL);
CREATE TEMP TABLE bulk_operation_chunks (LIKE public.bulk_operation_chunks INCLUDING ALL);
CREATE TEMP TABLE bulk_operation_items (LIKE public.bulk_operation_items INCLUDING ALL);
CREATE TEMP TABLE journal (LIKE public.journal INCLUDING ALL) PARTITION BY RANGE (recorded_at);
DO $$
DECLARE
    month record;
BEGIN
    FOR month IN
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.journal'::regclass
    LOOP
        EXECUTE format('CREATE TEMP TABLE %I PARTITION OF pg_temp.journal %s', month.relname,
                       month.bound);
    END LOOP;
END
$$;
