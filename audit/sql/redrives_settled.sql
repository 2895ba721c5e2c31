-- Of these redrives, those whose record its lane has passed: what the journal says of it there.
SELECT r.redrive_id, r.lane AS first_lane, r.result_sequence AS first_sequence, r.requested_at,
       j.lane, j.result_sequence, j.kind, j.outcome, j.reason, j.details, j.organization_id,
       j.command_id, j.command_source
FROM unnest($1::uuid[]) AS asked (redrive_id)
JOIN redrives AS r USING (redrive_id)
JOIN lanes AS l ON l.lane = r.sent_lane AND l.next_offset > r.sent_offset
CROSS JOIN LATERAL journal_row_at(r.sent_lane, r.sent_offset) AS j
