-- Makes the journal's partitions ahead of need; tells up to when they reach.
SELECT ensure_journal_partitions(clock_timestamp() + $1::interval)
