-- Up to $4 versions of one candidate below $3, the newest first.
SELECT version, recorded_at, lane, result_sequence, change_sequence, command_type, change
FROM journal
WHERE organization_id = $1 AND candidate_id = $2 AND change_sequence IS NOT NULL
  AND version < $3
ORDER BY version DESC
LIMIT $4
