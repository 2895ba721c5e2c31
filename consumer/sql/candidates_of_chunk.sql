-- The candidates of one chunk of an operation; one index probe for each.
SELECT c.organization_id::text, c.candidate_id::text, c.first_name, c.last_name, c.email, c.phone,
       c.status, c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version,
       c.created_at
FROM bulk_operation_chunks AS o
CROSS JOIN LATERAL unnest(o.candidate_ids) AS k (candidate_id)
CROSS JOIN LATERAL (
    SELECT * FROM candidates AS c
    WHERE c.organization_id = o.organization_id AND c.candidate_id = k.candidate_id
    LIMIT 1) AS c
WHERE o.organization_id = $1 AND o.operation_id = $2 AND o.first_ordinal = $3
