-- The last change of a lane up to a result.
SELECT change_sequence FROM journal
WHERE lane = $1 AND result_sequence <= $2 AND change_sequence IS NOT NULL
ORDER BY result_sequence DESC, journal_sequence DESC LIMIT 1
