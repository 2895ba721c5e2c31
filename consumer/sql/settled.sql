-- How commands with these identities were settled, as far back as deduplication reaches.
-- LATERAL with LIMIT: one index probe for each key, whatever the planner believes of the journal.
SELECT k.identity, j.digest, j.lane, j.result_sequence, j.outcome, j.reason, j.version
FROM unnest($1::text::uuid[]) AS k (identity)
CROSS JOIN LATERAL (
    SELECT digest, lane, result_sequence, outcome, reason, version
    FROM journal
    WHERE identity = k.identity AND recorded_at >= $2 AND recorded_at <= $3
    LIMIT 1) AS j
