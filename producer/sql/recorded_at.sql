-- When a result of a lane was decided.
SELECT recorded_at FROM journal WHERE lane = $1 AND result_sequence = $2 LIMIT 1
