-- Behind which result a lane's journal begins, as its checkpoints say.
SELECT coalesce(max(result_sequence), 0) FROM checkpoints
WHERE lane = $1 AND dropped_at IS NOT NULL
