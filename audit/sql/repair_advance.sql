-- The compare-and-set of a repair: $5 rows more, each with a notice of its own.
UPDATE lanes
SET journal_sequence = journal_sequence + $5, result_sequence = result_sequence + $5,
    last_recorded_at = $6
WHERE lane = $1 AND owner_epoch = $2 AND next_offset = $3 AND journal_sequence = $4
