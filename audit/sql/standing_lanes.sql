-- Every lane, with all that a rebuilt row moves.
SELECT lane, owner_epoch, next_offset, last_record_offset, last_record_timestamp,
       last_record_digest, journal_sequence, result_sequence, change_sequence,
       published_result_sequence, published_end_offset, nullif(last_recorded_at, '-infinity')
FROM lanes
ORDER BY lane
