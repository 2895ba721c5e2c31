-- A page of the queue, oldest first, each letter with its newest redrive. Dead letters are few: what
-- is no part of the index is looked at row by row. Anybody may claim to be redriven: only if so.
SELECT d.lane, d.result_sequence, d.recorded_at, d.source_offset, d.error_code, d.error_detail,
       d.organization_id,
       CASE WHEN EXISTS (
           SELECT FROM redrives AS f
           WHERE f.lane = split_part(d.redrive_of, '-', 1)::integer
             AND f.result_sequence = split_part(d.redrive_of, '-', 2)::bigint)
       THEN d.redrive_of END AS redrive_of,
       octet_length(d.record) AS record_bytes, r.redrives_total, r.requested_at AS redriven_at,
       r.requested_by AS redriven_by, r.outcome, r.reason
FROM dead_letters AS d
LEFT JOIN LATERAL (
    SELECT count(*) OVER () AS redrives_total, requested_at, requested_by, outcome, reason
    FROM redrives
    WHERE lane = d.lane AND result_sequence = d.result_sequence
    ORDER BY requested_at DESC
    LIMIT 1) AS r ON true
WHERE ($1::text[] IS NULL OR d.error_code = ANY ($1))
  AND ($2::timestamptz IS NULL OR d.recorded_at >= $2)
  AND ($3::timestamptz IS NULL OR d.recorded_at < $3)
  AND ($4::uuid IS NULL OR d.organization_id = $4)
  AND ($5::integer IS NULL OR d.lane = $5)
  AND ($6::boolean IS NULL OR (r.requested_at IS NOT NULL) = $6)
  AND ($11::integer[] IS NULL OR (d.lane, d.result_sequence) IN (
      SELECT * FROM unnest($11, $12::bigint[])))
  AND ($7::timestamptz IS NULL OR (d.recorded_at, d.lane, d.result_sequence) > ($7, $8, $9))
ORDER BY d.recorded_at, d.lane, d.result_sequence
LIMIT $10
