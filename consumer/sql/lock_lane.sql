-- Locks the lane row until COMMIT and reads the batch's instant from the database's clock.
SELECT lane, partitions_total, commands_topic, cluster_id, owner_epoch, next_offset,
       last_record_offset, last_record_timestamp, last_record_digest,
       journal_sequence, result_sequence, change_sequence,
       published_result_sequence, published_end_offset,
       greatest(last_recorded_at, clock_timestamp()) AS recorded_at
FROM lanes
WHERE lane = $1
FOR NO KEY UPDATE
