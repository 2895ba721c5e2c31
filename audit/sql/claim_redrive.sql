-- Notes the redrive before it happens. Not without $5 (again) where this letter was sent before, or
-- is itself the later death of one that was; never while another redrive of it is under way.
INSERT INTO redrives (redrive_id, lane, result_sequence, requested_by, again)
SELECT $1, d.lane, d.result_sequence, $4, $5
FROM dead_letters AS d
WHERE d.lane = $2 AND d.result_sequence = $3
  AND ($5 OR NOT EXISTS (
      SELECT FROM redrives AS r
      WHERE r.outcome IS DISTINCT FROM 'send_failed'
        AND ((r.lane = d.lane AND r.result_sequence = d.result_sequence)
          OR (r.lane = split_part(d.redrive_of, '-', 1)::integer
              AND r.result_sequence = split_part(d.redrive_of, '-', 2)::bigint))))
ON CONFLICT DO NOTHING
RETURNING redrive_id
