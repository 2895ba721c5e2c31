-- The versions of candidates that are about to be restored; one index probe for each.
SELECT c.organization_id, c.candidate_id, c.version
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
JOIN candidates AS c USING (organization_id, candidate_id)
