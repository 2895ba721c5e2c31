-- Every candidate that the journal or the checkpoint knows in a range of keys.
(SELECT organization_id, candidate_id FROM journal
 WHERE change_sequence IS NOT NULL
   AND (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
   AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
 ORDER BY organization_id, candidate_id, version OFFSET 0)
UNION
SELECT organization_id, candidate_id FROM checkpoint_candidates
WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
  AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
