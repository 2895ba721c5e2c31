-- One candidate as it is now, for whoever operates the service.
SELECT first_name, last_name, email, phone, status, pipeline_stage, rating, source, tags,
       attributes, version, created_at, updated_at
FROM candidates
WHERE organization_id = $1 AND candidate_id = $2
