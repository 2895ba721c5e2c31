-- The newest change of each organization asked for that has one.
SELECT ordinal, change_sequence, recorded_at FROM read_latest_changes($1)
