-- The candidates that a batch names; one index probe for each.
SELECT c.candidate_id::text, c.first_name, c.last_name, c.email, c.phone, c.status,
       c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version, c.created_at,
       c.organization_id::text
FROM unnest($1::text::uuid[], $2::text::uuid[]) AS k (organization_id, candidate_id)
CROSS JOIN LATERAL (
    SELECT * FROM candidates AS c
    WHERE c.organization_id = k.organization_id AND c.candidate_id = k.candidate_id
    LIMIT 1) AS c
