-- Where a lane's journal begins, as its checkpoints say: the last row that was dropped.
SELECT result_sequence, journal_sequence, last_recorded_at, change_sequence FROM checkpoints
WHERE lane = $1 AND dropped_at IS NOT NULL
ORDER BY cut_at DESC
LIMIT 1
