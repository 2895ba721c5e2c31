-- The candidates of an organization that match a filter, in chunks of $3, if not more than $4;
-- how many they are. $5 holds the versions expected of some of them.
WITH matched AS MATERIALIZED (
    SELECT c.candidate_id, row_number() OVER (ORDER BY c.candidate_id) - 1 AS ordinal
    FROM candidates AS c
    WHERE c.organization_id = $1{conditions}
    ORDER BY c.candidate_id
    LIMIT $4::bigint + 1
), counted AS (
    SELECT count(*)::integer AS total FROM matched
), written AS (
    INSERT INTO bulk_operation_chunks (organization_id, operation_id, first_ordinal, candidate_ids,
                                       expected_versions)
    SELECT $1, $2, min(m.ordinal), array_agg(m.candidate_id ORDER BY m.ordinal),
           CASE WHEN $5::jsonb IS NOT NULL
               THEN array_agg(($5::jsonb ->> m.candidate_id::text)::bigint ORDER BY m.ordinal) END
    FROM matched AS m
    WHERE (SELECT total FROM counted) <= $4::bigint
    GROUP BY m.ordinal / $3::bigint
)
SELECT total FROM counted
