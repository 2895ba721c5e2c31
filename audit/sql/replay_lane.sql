-- The lane as it stood before what is replayed next.
INSERT INTO pg_temp.lanes (lane, partitions_total, commands_topic, cluster_id, owner_epoch,
                           next_offset, journal_sequence, result_sequence, change_sequence,
                           published_result_sequence)
VALUES ($1, $2, '', '', 0, $3, $4, $5, $6, 0)
ON CONFLICT (lane) DO UPDATE
SET next_offset = excluded.next_offset, journal_sequence = excluded.journal_sequence,
    result_sequence = excluded.result_sequence, change_sequence = excluded.change_sequence
