-- Brings a lane's checkpoint up to the end of a partition: each candidate that changed in it, at the
-- newest version that it got there. Keys are sorted without the states, which are large.
INSERT INTO checkpoint_candidates AS c (organization_id, candidate_id, lane, version, recorded_at,
                                        result_sequence, journal_sequence, state)
SELECT n.organization_id, n.candidate_id, j.lane, j.version, j.recorded_at, j.result_sequence,
       j.journal_sequence, j.change -> 'state'
FROM (
    SELECT DISTINCT ON (k.organization_id, k.candidate_id) k.organization_id, k.candidate_id,
           k.result_sequence, k.journal_sequence, k.recorded_at
    FROM journal AS k
    WHERE k.lane = $1 AND k.recorded_at >= $2 AND k.recorded_at < $3
        AND k.change_sequence IS NOT NULL AND k.version IS NOT NULL
    ORDER BY k.organization_id, k.candidate_id, k.version DESC, k.journal_sequence DESC
) AS n
JOIN journal AS j
    ON j.lane = $1 AND j.result_sequence = n.result_sequence
    AND j.journal_sequence = n.journal_sequence AND j.recorded_at = n.recorded_at
ON CONFLICT (organization_id, candidate_id) DO UPDATE
SET version = excluded.version, recorded_at = excluded.recorded_at,
    result_sequence = excluded.result_sequence, journal_sequence = excluded.journal_sequence,
    state = excluded.state, personal_digest = NULL
WHERE c.version <= excluded.version AND c.journal_sequence < excluded.journal_sequence
