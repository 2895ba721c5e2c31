-- The last key of the range that begins at ($1, $2): at most $3 versions, candidates or names.
WITH versions AS (
    SELECT organization_id, candidate_id FROM journal
    WHERE change_sequence IS NOT NULL AND (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
    ORDER BY organization_id, candidate_id OFFSET $3 LIMIT 1
), up_to AS (
    SELECT coalesce(v.organization_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS organization_id,
           coalesce(v.candidate_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') AS candidate_id
    FROM (SELECT) AS always LEFT JOIN versions AS v ON true
), rows AS (
    SELECT organization_id, candidate_id FROM candidates
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id)
        <= ((SELECT organization_id FROM up_to), (SELECT candidate_id FROM up_to))
    ORDER BY organization_id, candidate_id OFFSET $3 LIMIT 1
), names AS (
    SELECT organization_id, candidate_id FROM candidate_names
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id)
        <= ((SELECT organization_id FROM up_to), (SELECT candidate_id FROM up_to))
    ORDER BY organization_id, candidate_id OFFSET $3 LIMIT 1
)
SELECT organization_id, candidate_id
FROM (TABLE versions UNION ALL TABLE rows UNION ALL TABLE names) AS bound
ORDER BY organization_id, candidate_id
LIMIT 1
