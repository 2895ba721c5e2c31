-- The candidates that a batch names.
SELECT c.organization_id, c.candidate_id, c.first_name, c.last_name, c.email, c.phone, c.status,
       c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version, c.created_at,
       c.updated_at
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
JOIN candidates AS c USING (organization_id, candidate_id)
