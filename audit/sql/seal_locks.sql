-- For one transaction: no other sealer is at this lane, and no erasure takes a step. False if one is.
SELECT pg_try_advisory_xact_lock(hashtext('gulf-funnel.journal-seals'), $1)
