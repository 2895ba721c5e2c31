-- Remembers the number of partitions, the topic and the cluster for good, once.
INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id)
SELECT lane, $1, $2, $3 FROM generate_series(0, $1 - 1) AS lane
WHERE NOT EXISTS (SELECT FROM lanes)
ON CONFLICT DO NOTHING
