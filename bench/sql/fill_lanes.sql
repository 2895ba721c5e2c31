-- Each of $1 lanes as it stands behind $4 changes, everything published.
INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id, next_offset,
                   journal_sequence, result_sequence, change_sequence, published_result_sequence,
                   last_recorded_at)
SELECT lane, $1, $2, $3, CASE WHEN $6::boolean THEN 0 ELSE $4::bigint * $5::integer END,
       $4::bigint * $5::integer, $4::bigint * $5::integer, $4::bigint, $4::bigint * $5::integer,
       (SELECT max(recorded_at) FROM journal AS j
        WHERE j.lane = n.lane AND j.result_sequence = $4::bigint * $5::integer)
FROM generate_series(0, $1::integer - 1) AS n (lane)
