-- Journal rows of lanes that do not exist.
SELECT lane, count(*) AS rows_total FROM journal WHERE lane < 0 GROUP BY lane
UNION ALL
SELECT lane, count(*) FROM journal
WHERE lane > (SELECT coalesce(max(lane), -1) FROM lanes) GROUP BY lane
