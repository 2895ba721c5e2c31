-- Journal rows of a lane at or before a result: none, where the journal begins behind it.
SELECT count(*) FROM (SELECT FROM journal WHERE lane = $1 AND result_sequence <= $2 LIMIT 1000) AS j
