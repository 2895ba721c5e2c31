-- The journal row of a change of a candidate.
SELECT result_sequence, journal_sequence FROM journal
WHERE organization_id = $1 AND candidate_id = $2 AND change_sequence IS NOT NULL
  AND lane = $3 AND change_sequence = $4
