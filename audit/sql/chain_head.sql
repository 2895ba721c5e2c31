-- The newest link of a lane's chain.
SELECT lane, link, kind, first_result, last_result, rows_total, last_recorded_at, digest, format,
       sealed_at, chain
FROM journal_seals
WHERE lane = $1
ORDER BY link DESC
LIMIT 1
