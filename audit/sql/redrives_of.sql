-- Every redrive of a dead letter, oldest first: who, when, to which place, what became of it.
SELECT redrive_id, requested_by, requested_at, again, sent_lane, sent_offset, outcome, reason,
       ended_lane, ended_sequence, ended_at
FROM redrives
WHERE lane = $1 AND result_sequence = $2
ORDER BY requested_at
