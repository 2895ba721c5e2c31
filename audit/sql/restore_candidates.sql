-- The newest known state of each candidate, never over a newer one.
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
