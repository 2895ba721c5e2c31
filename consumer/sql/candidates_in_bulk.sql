-- Candidates of one organization, named in one text of a uuid[], and where they stand.
SELECT c.candidate_id::text, c.first_name, c.last_name, c.email, c.phone, c.status,
       c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version, c.created_at,
       c.ctid::text
FROM candidates AS c
WHERE c.organization_id = $1 AND c.candidate_id = ANY ($2::text::uuid[])
