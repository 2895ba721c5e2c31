-- How commands with these identities were settled, as far back as deduplication reaches.
SELECT j.identity, j.digest, j.lane, j.result_sequence, j.outcome, j.reason, j.version
FROM unnest($1::uuid[]) AS k (identity)
JOIN journal AS j ON j.identity = k.identity
WHERE j.recorded_at >= $2 AND j.recorded_at <= $3
