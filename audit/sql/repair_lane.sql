-- The lane whose state is repaired, locked until COMMIT, and an instant for what is written.
SELECT lane, partitions_total, owner_epoch, next_offset, journal_sequence, result_sequence,
       greatest(last_recorded_at, clock_timestamp()) AS recorded_at
FROM lanes WHERE lane = $1 FOR NO KEY UPDATE
