-- A salt for each candidate that a range of a lane's rows names for the first time. In order, so
-- that two who add the same wait for one another only one way round.
INSERT INTO journal_salts (organization_id, candidate_id)
SELECT DISTINCT j.organization_id, j.candidate_id
FROM journal AS j
WHERE j.lane = $1 AND j.result_sequence >= $2 AND j.result_sequence <= $3
    AND j.organization_id IS NOT NULL AND j.candidate_id IS NOT NULL
ORDER BY 1, 2
ON CONFLICT DO NOTHING
