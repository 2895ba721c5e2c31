-- How each lane stands: whose it is, why it stands still, since when it has something to publish.
SELECT l.lane, l.partitions_total, l.commands_topic, l.cluster_id, l.owner,
       coalesce(c.lease_until > clock_timestamp(), false) AS owner_lives, l.halted,
       extract(epoch FROM clock_timestamp() - l.held_since)::float8 AS held_seconds,
       l.next_offset, l.result_sequence - l.published_result_sequence AS unpublished,
       extract(epoch FROM clock_timestamp() - u.recorded_at)::float8 AS unpublished_seconds,
       CASE WHEN isfinite(l.last_recorded_at)
           THEN extract(epoch FROM clock_timestamp() - l.last_recorded_at)::float8
       END AS progress_seconds
FROM lanes AS l
LEFT JOIN consumers AS c ON c.consumer_id = l.owner
LEFT JOIN LATERAL (
    SELECT j.recorded_at FROM journal AS j
    WHERE j.lane = l.lane AND j.result_sequence = l.published_result_sequence + 1
    LIMIT 1) AS u ON true
ORDER BY l.lane
