-- Where a lane's journal begins, if months of it were dropped: behind which result, and the end of
-- those months.
SELECT result_sequence, last_recorded_at, cut_at FROM checkpoints
WHERE lane = $1 AND dropped_at IS NOT NULL
ORDER BY cut_at DESC
LIMIT 1
