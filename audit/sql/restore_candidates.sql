-- The newest known state of each candidate and what it is found by, never over a newer one.
WITH restored AS (
INSERT INTO candidates AS c (organization_id, candidate_id, first_name, last_name, email, phone,
                             status, pipeline_stage, rating, source, tags, attributes, version,
                             created_at, updated_at)
SELECT n.organization_id, n.candidate_id, n.first_name, n.last_name, n.email, n.phone, n.status,
       n.pipeline_stage, n.rating, n.source, n.tags, n.attributes, n.version, n.created_at,
       n.updated_at
FROM jsonb_populate_recordset(NULL::candidates, $1::text::jsonb) AS n
ON CONFLICT (organization_id, candidate_id) DO UPDATE
SET first_name = excluded.first_name, last_name = excluded.last_name, email = excluded.email,
    phone = excluded.phone, status = excluded.status, pipeline_stage = excluded.pipeline_stage,
    rating = excluded.rating, source = excluded.source, tags = excluded.tags,
    attributes = excluded.attributes, version = excluded.version,
    created_at = excluded.created_at, updated_at = excluded.updated_at
WHERE c.version < excluded.version
RETURNING organization_id, candidate_id, created_at, first_name, last_name, email)
INSERT INTO candidate_names
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM restored
ON CONFLICT (organization_id, candidate_id) DO UPDATE
SET created_at = excluded.created_at, first_name = excluded.first_name,
    last_name = excluded.last_name, email = excluded.email
