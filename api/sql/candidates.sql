-- The candidates asked for that are there; each pair of arrays' elements is one question.
SELECT organization_id::text, candidate_id::text, first_name, last_name, email, phone, status,
       pipeline_stage, rating, source, tags, attributes, version, created_at, updated_at
FROM read_candidates($1, $2)
