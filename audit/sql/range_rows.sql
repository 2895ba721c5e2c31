-- The next $6 journal rows of a lane behind a row ($2, $3), up to result $4 and, in its unit, to
-- the end; only those of an organization, a candidate, an operation where one is named.
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
WHERE j.lane = $1 AND (j.result_sequence, j.journal_sequence) > ($2::bigint, $3::bigint)
  AND j.result_sequence <= $4
  AND j.recorded_at >= $5
  AND ($7::uuid IS NULL OR j.organization_id = $7)
  AND ($8::uuid IS NULL OR j.candidate_id = $8)
  AND ($9::uuid IS NULL OR j.operation_id = $9)
ORDER BY j.result_sequence, j.journal_sequence
LIMIT $6
