-- How a redriven record ended on the lane that it was sent on to: settled there, or dead again.
SELECT j.lane, j.result_sequence, j.kind, j.outcome, j.reason, j.details
FROM journal AS j
WHERE j.identity = $1
UNION ALL
SELECT d.lane, d.result_sequence, 'dead_letter', NULL, d.error_code, NULL
FROM dead_letters AS d
WHERE d.lane = $2 AND d.recorded_at >= $6
  AND (d.redrive_of = $3 OR d.redrive_of = (
      SELECT redrive_of FROM dead_letters WHERE lane = $4 AND result_sequence = $5))
LIMIT 1
