-- The organizations that have a candidate with this id, or have erased one. No index begins with
-- candidate_id: PostgreSQL skips from one organization to the next within the primary keys.
SELECT organization_id FROM candidates WHERE candidate_id = $1
UNION
SELECT organization_id FROM erasures WHERE candidate_id = $1
ORDER BY organization_id
