-- One candidate as a change left it: the version $3, or the newest one recorded by $4.
SELECT lane, result_sequence, version, recorded_at, change
FROM journal
WHERE organization_id = $1 AND candidate_id = $2 AND change_sequence IS NOT NULL
  AND ($3::bigint IS NULL OR version = $3)
  AND ($4::timestamptz IS NULL OR recorded_at <= $4)
ORDER BY version DESC
LIMIT 1
