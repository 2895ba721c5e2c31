-- Renews this consumer's lease, forgets those long gone, and lists who is alive.
WITH renewed AS (
    INSERT INTO consumers (consumer_id, lease_until)
    VALUES ($1, clock_timestamp() + $2::interval)
    ON CONFLICT (consumer_id) DO UPDATE SET lease_until = excluded.lease_until
), forgotten AS (
    DELETE FROM consumers
    WHERE lease_until < clock_timestamp() - interval '1 hour' AND consumer_id <> $1
)
SELECT consumer_id FROM consumers
WHERE lease_until > clock_timestamp() AND consumer_id <> $1
UNION ALL SELECT $1
ORDER BY 1
