-- migrate:up

-- What the API reads of bulk operations, with the rights of its caller. The organization is named
-- in a statement of its own, as in 0002.

-- Many operations, of whatever organizations.
CREATE FUNCTION read_operations(organizations uuid[], operation_ids uuid[])
RETURNS SETOF bulk_operations
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations, operation_ids) AS a (organization_id, operation_id)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT * FROM bulk_operations AS o
            WHERE o.organization_id = asked.organization_id
                AND o.operation_id = asked.operation_id;
    END LOOP;
END
$$;

-- A page of an organization's operations, newest first, after a place in that order.
CREATE FUNCTION list_operations(
    organization uuid, only_status text, before_time timestamptz, before_id uuid,
    page_rows integer
) RETURNS SETOF bulk_operations
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    RETURN QUERY
        SELECT * FROM bulk_operations AS o
        WHERE o.organization_id = organization
            AND (o.created_at, o.operation_id) < (
                coalesce(before_time, 'infinity'),
                coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND (only_status IS NULL OR o.status = only_status)
        ORDER BY o.created_at DESC, o.operation_id DESC
        LIMIT page_rows;
END
$$;

-- Items of one operation after an ordinal: those that were decided, and those that are pending,
-- at most a page of either. STABLE: one snapshot for both, so an item is in one of them.
CREATE FUNCTION list_operation_items(
    organization uuid, operation uuid, only_outcome text, after_ordinal integer, page_rows integer
) RETURNS TABLE (ordinal integer, candidate_id uuid, outcome text, version bigint, details json)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    IF only_outcome IS DISTINCT FROM 'pending' THEN
        RETURN QUERY
            SELECT i.ordinal, i.candidate_id, i.outcome, i.version, i.details
            FROM bulk_operation_items AS i
            WHERE i.organization_id = organization AND i.operation_id = operation
                AND i.ordinal > after_ordinal
                AND (only_outcome IS NULL OR i.outcome = only_outcome)
            ORDER BY i.ordinal
            LIMIT page_rows;
    END IF;
    IF coalesce(only_outcome, 'pending') = 'pending' THEN
        RETURN QUERY
            SELECT (c.first_ordinal + w.n - 1)::integer, w.id, 'pending', NULL::bigint, NULL::json
            FROM (
                SELECT k.first_ordinal, k.candidate_ids
                FROM bulk_operation_chunks AS k
                WHERE k.organization_id = organization AND k.operation_id = operation
                    AND k.first_ordinal + cardinality(k.candidate_ids) > after_ordinal + 1
                ORDER BY k.first_ordinal
                LIMIT page_rows
            ) AS c, unnest(c.candidate_ids) WITH ORDINALITY AS w (id, n)
            WHERE c.first_ordinal + w.n - 1 > after_ordinal
            ORDER BY 1
            LIMIT page_rows;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION read_operations(uuid[], uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION list_operations(uuid, text, timestamptz, uuid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION list_operation_items(uuid, uuid, text, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_operations(uuid[], uuid[]) TO funnel_api;
GRANT EXECUTE ON FUNCTION list_operations(uuid, text, timestamptz, uuid, integer) TO funnel_api;
GRANT EXECUTE ON FUNCTION list_operation_items(uuid, uuid, text, integer, integer) TO funnel_api;

-- migrate:down

DROP FUNCTION list_operation_items(uuid, uuid, text, integer, integer);
DROP FUNCTION list_operations(uuid, text, timestamptz, uuid, integer);
DROP FUNCTION read_operations(uuid[], uuid[]);
