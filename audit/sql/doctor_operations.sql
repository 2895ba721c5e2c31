-- Bulk operations that run: how many, how many of them have not moved for $1, and the oldest such.
SELECT count(*) AS running,
       count(*) FILTER (WHERE updated_at < clock_timestamp() - $1::interval) AS stuck,
       (array_agg(operation_id ORDER BY updated_at))[1] AS oldest,
       coalesce(extract(epoch FROM max(clock_timestamp() - updated_at)), 0)::float8
           AS still_seconds
FROM bulk_operations
WHERE completed_at IS NULL AND status = 'running'
