-- Which of these candidates were erased; asked only of those that are not there.
SELECT k.organization_id, k.candidate_id
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
CROSS JOIN LATERAL (
    SELECT FROM erasures AS e
    WHERE e.organization_id = k.organization_id AND e.candidate_id = k.candidate_id
    LIMIT 1) AS e
