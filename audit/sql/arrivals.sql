-- Every journal row of a command: the one that settled it ($1 to $2 is the range of its identity),
-- and those of its other arrivals, in the order in which they came.
SELECT recorded_at, lane, journal_sequence, result_sequence, change_sequence, kind, source_offset,
       candidate_id, command_source, command_type, actor, outcome, reason, version,
       previous_version, details, change, traceparent, operation_id
FROM journal
WHERE identity BETWEEN $1 AND $2 AND organization_id = $3 AND command_id = $4
UNION ALL
SELECT recorded_at, lane, journal_sequence, result_sequence, change_sequence, kind, source_offset,
       candidate_id, command_source, command_type, actor, outcome, reason, version,
       previous_version, details, change, traceparent, operation_id
FROM journal
WHERE organization_id = $3 AND command_id = $4
  AND identity IS NULL AND kind IN ('command', 'reroute', 'dead_letter')
ORDER BY recorded_at, lane, journal_sequence
