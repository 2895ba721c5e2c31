-- Every lane as its row says it stands.
SELECT lane, journal_sequence, result_sequence, change_sequence, published_result_sequence,
       next_offset, last_recorded_at
FROM lanes
ORDER BY lane
