-- Says that a lane's checkpoint at the end of a partition is being written, and where it will end.
INSERT INTO checkpoints (lane, cut_at, partition, result_sequence, journal_sequence,
                         change_sequence, last_recorded_at)
SELECT $1::integer, $3::timestamptz, $4::text, e.result_sequence, e.journal_sequence,
       coalesce(
           (SELECT j.change_sequence FROM journal AS j
            WHERE j.lane = $1 AND j.recorded_at >= $2 AND j.recorded_at < $3
                AND j.change_sequence IS NOT NULL
            ORDER BY j.result_sequence DESC, j.journal_sequence DESC LIMIT 1),
           (SELECT max(c.change_sequence) FROM checkpoints AS c
            WHERE c.lane = $1 AND c.cut_at < $3),
           0),
       e.recorded_at
FROM (
    SELECT j.result_sequence, j.journal_sequence, j.recorded_at FROM journal AS j
    WHERE j.lane = $1 AND j.recorded_at >= $2 AND j.recorded_at < $3
    ORDER BY j.result_sequence DESC, j.journal_sequence DESC
    LIMIT 1
) AS e
ON CONFLICT (lane, cut_at) DO NOTHING
