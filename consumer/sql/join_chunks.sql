-- Joins the chunks in which the next $3 candidates of an operation are, if they are several.
WITH wanted AS (
    SELECT c.organization_id, c.operation_id, c.first_ordinal
    FROM bulk_operations AS o
    JOIN bulk_operation_chunks AS c USING (organization_id, operation_id)
    WHERE o.organization_id = $1 AND o.operation_id = $2
      AND c.first_ordinal < o.next_ordinal + $3::integer
), several AS (
    DELETE FROM bulk_operation_chunks AS c USING wanted AS w
    WHERE c.organization_id = w.organization_id AND c.operation_id = w.operation_id
      AND c.first_ordinal = w.first_ordinal AND (SELECT count(*) FROM wanted) > 1
    RETURNING c.*
)
INSERT INTO bulk_operation_chunks (organization_id, operation_id, first_ordinal, candidate_ids,
                                   expected_versions)
SELECT s.organization_id, s.operation_id, min(s.first_ordinal),
       array_agg(i.candidate_id ORDER BY s.first_ordinal, i.n),
       CASE WHEN bool_or(i.expected_version IS NOT NULL)
           THEN array_agg(i.expected_version ORDER BY s.first_ordinal, i.n) END
FROM several AS s
CROSS JOIN LATERAL unnest(s.candidate_ids, s.expected_versions) WITH ORDINALITY
    AS i (candidate_id, expected_version, n)
GROUP BY s.organization_id, s.operation_id
