-- What became of a redriven record, once.
UPDATE redrives
SET outcome = $2, reason = $3, ended_lane = $4, ended_sequence = $5, ended_at = clock_timestamp()
WHERE redrive_id = $1 AND ended_at IS NULL
