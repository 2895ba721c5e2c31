-- Moves a lane behind rows that were rebuilt; it is locked, its owner stays.
UPDATE lanes
SET next_offset = $3, last_record_offset = $4, last_record_timestamp = $5,
    last_record_digest = $6, journal_sequence = $7, result_sequence = $8, change_sequence = $9,
    published_result_sequence = $10, published_end_offset = $11, last_recorded_at = $12
WHERE lane = $1 AND owner_epoch >= $2
