-- Redrives whose end nobody has noted: who began them has gone away, or is still at it.
SELECT redrive_id, sent_offset IS NULL AND requested_at < clock_timestamp() - $1::interval AS lost
FROM redrives
WHERE ended_at IS NULL AND (sent_offset IS NOT NULL OR requested_at < clock_timestamp() - $1::interval)
ORDER BY requested_at
LIMIT $2
