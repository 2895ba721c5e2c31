-- Dead letters of the last day, those that nobody has redriven, and redrives that do not end.
SELECT count(*) FILTER (WHERE recorded_at > clock_timestamp() - interval '1 day') AS of_today,
       count(*) FILTER (WHERE NOT EXISTS (
           SELECT FROM redrives AS r
           WHERE r.lane = d.lane AND r.result_sequence = d.result_sequence)) AS never_redriven,
       (SELECT count(*) FROM redrives
        WHERE ended_at IS NULL AND requested_at < clock_timestamp() - interval '10 minutes')
           AS redrives_open
FROM dead_letters AS d
