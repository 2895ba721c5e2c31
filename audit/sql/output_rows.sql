-- A lane's journal rows behind a result, as its events are built from them.
SELECT j.recorded_at, j.lane, j.journal_sequence, j.result_sequence, j.change_sequence, j.kind,
       j.source_offset, j.identity, j.digest, j.organization_id, j.candidate_id, j.command_id,
       j.command_source, j.command_type, j.actor, j.outcome, j.reason, j.version,
       j.previous_version, j.details, j.change, coalesce(j.forward, d.record) AS forward,
       j.traceparent, j.tracestate, j.builder, j.operation_id
FROM journal AS j
LEFT JOIN LATERAL (
    SELECT record FROM dead_letters AS d
    WHERE j.kind = 'dead_letter' AND d.lane = j.lane AND d.result_sequence = j.result_sequence
    OFFSET 0) AS d ON true
WHERE j.lane = $1 AND j.result_sequence > $2 AND j.result_sequence <= $3
ORDER BY j.result_sequence, j.journal_sequence
LIMIT $4
