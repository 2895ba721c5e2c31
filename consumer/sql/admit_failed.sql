-- The failed items of operation $3, in chunks of $4, for the operation that tries them again; how
-- many of them are still there.
WITH failed AS (
    SELECT i.candidate_id, row_number() OVER (ORDER BY i.ordinal) - 1 AS ordinal
    FROM bulk_operation_items AS i
    WHERE i.organization_id = $1 AND i.operation_id = $3
      AND i.outcome IN ('conflict', 'not_found', 'invalid')
), written AS (
    INSERT INTO bulk_operation_chunks (organization_id, operation_id, first_ordinal, candidate_ids)
    SELECT $1, $2, min(f.ordinal), array_agg(f.candidate_id ORDER BY f.ordinal)
    FROM failed AS f
    GROUP BY f.ordinal / $4::bigint
)
SELECT count(*)::integer FROM failed
