-- How many rows each lane's chain has sealed, lanes that do not exist included.
SELECT lane, max(link) AS links, sum(rows_total) FILTER (WHERE kind = 'rows') AS rows_total
FROM journal_seals
GROUP BY lane
ORDER BY lane
