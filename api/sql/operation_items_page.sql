-- A page of one bulk operation's items after an ordinal, decided or pending.
SELECT ordinal, candidate_id::text, outcome, version, details::text
FROM list_operation_items($1, $2, $3, $4, $5)
ORDER BY ordinal
LIMIT $5
