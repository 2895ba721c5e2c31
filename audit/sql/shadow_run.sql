-- The run that was cut short, if it read the same journal as it is now, and no lane was set back.
SELECT r.lanes, r.results, r.compared, r.repaired, r.findings FROM shadow.run AS r
WHERE r.journal = $1
  AND NOT EXISTS (
      SELECT FROM unnest(r.lanes, r.results) AS m (lane, result_sequence)
      LEFT JOIN lanes AS l ON l.lane = m.lane
      WHERE l.result_sequence IS NULL OR l.result_sequence < m.result_sequence)
