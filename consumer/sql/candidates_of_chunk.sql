-- The candidates of one chunk of an operation, and where they stand.
SELECT c.candidate_id::text, c.first_name, c.last_name, c.email, c.phone, c.status,
       c.pipeline_stage, c.rating, c.source, c.tags, c.attributes, c.version, c.created_at,
       c.ctid::text
FROM bulk_operation_chunks AS o
JOIN candidates AS c
  ON c.organization_id = o.organization_id AND c.candidate_id = ANY (o.candidate_ids)
WHERE o.organization_id = $1 AND o.operation_id = $2 AND o.first_ordinal = $3
