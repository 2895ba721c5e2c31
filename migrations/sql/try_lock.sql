-- Polled: a session that waits inside pg_advisory_lock deadlocks with CREATE INDEX CONCURRENTLY.
SELECT pg_try_advisory_lock(hashtext('gulf-funnel.migrations'))
