-- The next link of a lane's chain; $9 is the chain up to the link before.
INSERT INTO journal_seals (lane, link, kind, first_result, last_result, rows_total,
                           last_recorded_at, digest, format, sealed_at, chain)
SELECT n.*,
       sha256($9::bytea || record_send(ROW(
           n.lane, n.link, n.kind, n.first_result, n.last_result, n.rows_total,
           n.last_recorded_at, n.digest, n.format, n.sealed_at)))
FROM (
    SELECT $1::integer AS lane, $2::bigint AS link, $3::text AS kind, $4::bigint AS first_result,
           $5::bigint AS last_result, $6::bigint AS rows_total, $7::timestamptz AS last_recorded_at,
           $8::bytea AS digest, $10::smallint AS format, clock_timestamp() AS sealed_at
) AS n
