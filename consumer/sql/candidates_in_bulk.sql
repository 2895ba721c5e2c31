-- Candidates of one organization, named in one text of a uuid[]; one index probe for each.
SELECT c.organization_id::text, c.candidate_id::text, c.first_name, c.last_name, c.email, c.phone,
       c.status, c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version,
       c.created_at
FROM unnest($2::text::uuid[]) AS k (candidate_id)
CROSS JOIN LATERAL (
    SELECT * FROM candidates AS c
    WHERE c.organization_id = $1 AND c.candidate_id = k.candidate_id
    LIMIT 1) AS c
