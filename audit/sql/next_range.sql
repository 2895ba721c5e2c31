-- The next range of a lane's results to seal, behind $2: whole units of one month (a partition goes
-- as a whole), of some $3 rows.
WITH part AS (
    SELECT j.result_sequence, j.recorded_at FROM journal AS j
    JOIN lanes AS l ON l.lane = j.lane AND j.result_sequence <= l.result_sequence
    WHERE j.lane = $1 AND j.result_sequence > $2
    ORDER BY j.result_sequence, j.journal_sequence
    LIMIT $3
)
SELECT max(result_sequence) AS last_result
FROM part
WHERE date_trunc('month', recorded_at, 'UTC')
    = (SELECT date_trunc('month', min(recorded_at), 'UTC') FROM part)
