-- The compare-and-set of a lane transaction: moves offset and sequences, proves ownership again.
UPDATE lanes
SET next_offset = $5, journal_sequence = $6, result_sequence = $7, change_sequence = $8,
    last_record_offset = $9, last_record_timestamp = $10, last_record_digest = $11,
    last_recorded_at = $12,
    published_result_sequence = greatest(published_result_sequence, $13),
    published_end_offset = greatest(published_end_offset, $14)
WHERE lane = $1 AND owner_epoch = $2 AND next_offset = $3 AND journal_sequence = $4
