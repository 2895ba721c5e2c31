-- Of these identities, the rows that settle one again within $2. Too old commands settle nothing.
SELECT lane, result_sequence, lane_before, result_before
FROM (
    SELECT lane, result_sequence, recorded_at,
           lag(lane) OVER w AS lane_before,
           lag(result_sequence) OVER w AS result_before,
           lag(recorded_at) OVER w AS recorded_before
    FROM journal
    WHERE identity = ANY ($1::uuid[]) AND reason IS DISTINCT FROM 'too_old'
    WINDOW w AS (PARTITION BY identity ORDER BY recorded_at, lane, result_sequence)
) AS settled
WHERE recorded_at - recorded_before < $2::interval
ORDER BY lane, result_sequence
