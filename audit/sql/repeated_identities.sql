-- Identities that stand more than once among the first $2 from $1 on; the last of these, and how
-- many there were. In the order of the index, so that nothing is kept of those that stand alone.
SELECT encode(max(uuid_send(identity)), 'hex')::uuid AS last,
       coalesce(array_agg(identity) FILTER (WHERE times > 1), '{}') AS repeated,
       coalesce(sum(times), 0)::bigint AS rows_total
FROM (
    SELECT identity, count(*) AS times
    FROM (SELECT identity FROM journal WHERE identity >= $1 ORDER BY identity LIMIT $2) AS slice
    GROUP BY identity) AS counted
