-- Who is alive.
SELECT consumer_id FROM consumers WHERE lease_until > clock_timestamp() ORDER BY consumer_id
