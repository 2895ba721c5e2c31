-- When the first result of a lane at or behind $2 was settled.
SELECT recorded_at FROM journal
WHERE lane = $1 AND result_sequence >= $2
ORDER BY result_sequence, journal_sequence
LIMIT 1
