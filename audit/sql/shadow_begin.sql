-- A run begins, with the lanes as they are now.
INSERT INTO shadow.run (journal, lanes, results)
SELECT $1, coalesce(array_agg(lane ORDER BY lane), '{}'),
       coalesce(array_agg(result_sequence ORDER BY lane), '{}')
FROM lanes
