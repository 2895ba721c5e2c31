-- The journal row that a result or notice comes from: the last of its unit.
SELECT result_sequence, journal_sequence FROM journal
WHERE lane = $1 AND result_sequence = $2
ORDER BY journal_sequence DESC
LIMIT 1
