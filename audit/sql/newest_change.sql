-- The newest version of one candidate in the journal.
SELECT version, recorded_at, lane, change_sequence, change -> 'state' AS state,
       command_type = 'candidate.erase.v1' AND kind = 'command' AS erased
FROM journal
WHERE organization_id = $1 AND candidate_id = $2 AND change_sequence IS NOT NULL
ORDER BY version DESC, recorded_at DESC
LIMIT 1
