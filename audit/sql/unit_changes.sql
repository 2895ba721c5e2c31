-- How many changes a unit of a bulk operation has, and the first $3 of them.
SELECT candidate_id, version, change_sequence, count(*) OVER () AS changes_total
FROM journal
WHERE lane = $1 AND result_sequence = $2 AND kind = 'item'
ORDER BY journal_sequence
LIMIT $3
