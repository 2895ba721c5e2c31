-- Candidates that have no history, or none that they may have.
DELETE FROM candidates AS c
USING unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
WHERE c.organization_id = k.organization_id AND c.candidate_id = k.candidate_id
