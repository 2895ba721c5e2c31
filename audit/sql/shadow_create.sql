-- An empty table for a rebuilt state: no constraint, as what the journal says is to be seen as it is.
CREATE UNLOGGED TABLE shadow.candidates AS
SELECT organization_id, candidate_id, first_name, last_name, email, phone, status, pipeline_stage,
       rating, source, tags, attributes, version, created_at, updated_at
FROM candidates
WITH NO DATA
