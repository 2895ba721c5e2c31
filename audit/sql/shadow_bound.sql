-- The last key of the range of at most $3 candidates that begins at ($1, $2).
SELECT organization_id, candidate_id
FROM (
    (SELECT organization_id, candidate_id FROM shadow.candidates
     WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
     ORDER BY organization_id, candidate_id OFFSET $3 LIMIT 1)
    UNION ALL
    (SELECT organization_id, candidate_id FROM candidates
     WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
     ORDER BY organization_id, candidate_id OFFSET $3 LIMIT 1)
) AS bound
ORDER BY organization_id, candidate_id
LIMIT 1
