-- Where what is left of a lane's journal begins: the last result and change, and the last record of
-- the commands topic, that the months which were dropped told of.
SELECT c.result_sequence, c.change_sequence,
       coalesce(
           (SELECT j.source_offset FROM journal AS j
            WHERE j.lane = c.lane AND j.result_sequence > c.result_sequence
              AND j.kind IN ('command', 'reroute', 'dead_letter')
            ORDER BY j.result_sequence, j.journal_sequence LIMIT 1),
           l.next_offset) - 1 AS source_offset
FROM checkpoints AS c
JOIN lanes AS l ON l.lane = c.lane
WHERE c.lane = $1 AND c.dropped_at IS NOT NULL
ORDER BY c.cut_at DESC
LIMIT 1
