-- One candidate of one organization.
SELECT first_name, last_name, email, phone, status, pipeline_stage, rating, source, tags,
       attributes, version, created_at, updated_at
FROM read_candidate($1, $2)
