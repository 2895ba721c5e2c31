-- Identities in a range that more than one journal row has.
SELECT identity FROM journal
WHERE identity >= $1 AND identity <= $2
GROUP BY identity HAVING count(*) > 1
