-- Every lane with its owner, if that one is alive.
SELECT l.lane, l.owner_epoch, c.consumer_id AS owner
FROM lanes AS l
LEFT JOIN consumers AS c ON c.consumer_id = l.owner AND c.lease_until > clock_timestamp()
ORDER BY l.lane
