-- The candidates of an organization that match a filter, in chunks of $3, if not more than $4;
-- how many they are. $5 holds the versions expected of some of them. In the order in which they were
-- created: whoever resolves it again gets the same chunks, and each touches few pages.
WITH matched AS MATERIALIZED (
    SELECT coalesce(array_agg(m.candidate_id), '{}') AS ids
    FROM (
        SELECT c.candidate_id FROM candidates AS c
        WHERE c.organization_id = $1{conditions}
        ORDER BY c.created_at, c.candidate_id
        LIMIT $4::bigint + 1) AS m
), written AS (
    INSERT INTO bulk_operation_chunks (organization_id, operation_id, first_ordinal, candidate_ids,
                                       expected_versions)
    SELECT $1, $2, n, k.ids,
           CASE WHEN $5::jsonb IS NOT NULL THEN ARRAY(
               SELECT ($5::jsonb ->> i.candidate_id::text)::bigint
               FROM unnest(k.ids) WITH ORDINALITY AS i (candidate_id, ordinal)
               ORDER BY i.ordinal) END
    FROM matched AS m
    CROSS JOIN generate_series(0, cardinality(m.ids) - 1, $3::integer) AS n
    CROSS JOIN LATERAL (SELECT m.ids[n + 1:n + $3::integer] AS ids) AS k
    WHERE cardinality(m.ids) <= $4::bigint
)
SELECT cardinality(ids) FROM matched
