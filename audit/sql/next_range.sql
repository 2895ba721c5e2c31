-- The next range of a lane's results to seal, behind $2: whole units of one month (a partition goes
-- as a whole), of some $3 rows and some $4 bytes.
WITH part AS (
    SELECT j.result_sequence, j.journal_sequence, j.recorded_at,
           coalesce(4 * pg_column_size(j.change), 0) + coalesce(4 * pg_column_size(j.details), 0)
           + coalesce(octet_length(j.forward), 0) AS size
    FROM journal AS j
    JOIN lanes AS l ON l.lane = j.lane AND j.result_sequence <= l.result_sequence
    WHERE j.lane = $1 AND j.result_sequence > $2
    ORDER BY j.result_sequence, j.journal_sequence
    LIMIT $3
), measured AS (
    SELECT result_sequence, recorded_at,
           sum(size) OVER (ORDER BY result_sequence, journal_sequence) - size AS bytes_before
    FROM part
)
SELECT max(result_sequence) AS last_result
FROM measured
WHERE bytes_before < $4
    AND date_trunc('month', recorded_at, 'UTC')
        = (SELECT date_trunc('month', min(recorded_at), 'UTC') FROM part)
