-- The next $4 links of a lane's chain behind link $2, whose chain is $3, and the chain that each
-- should have.
SELECT lane, link, kind, first_result, last_result, rows_total, last_recorded_at, digest, format,
       sealed_at, chain,
       sha256(lag(chain, 1, $3::bytea) OVER (ORDER BY link) || record_send(ROW(
           lane, link, kind, first_result, last_result, rows_total, last_recorded_at, digest,
           format, sealed_at))) AS chain_expected
FROM journal_seals
WHERE lane = $1 AND link > $2
ORDER BY link
LIMIT $4
