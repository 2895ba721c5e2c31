-- For one range: erasures wait, and no other sealer is at this lane. False if one is.
SELECT pg_try_advisory_xact_lock(hashtext('gulf-funnel.journal-seals'), $1)
FROM (SELECT pg_advisory_xact_lock_shared(hashtext('gulf-funnel.journal-salts'))) AS shared
