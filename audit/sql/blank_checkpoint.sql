-- Of a lane's checkpoint: what was erased while it was written, or before, holds no state, and its
-- digest no longer depends on a salt.
UPDATE checkpoint_candidates AS c
SET state = NULL,
    personal_digest = coalesce(
        (SELECT e.personal_digest FROM journal_erased_rows AS e
         WHERE e.lane = c.lane AND e.result_sequence = c.result_sequence
             AND e.journal_sequence = c.journal_sequence),
        sha256(''::bytea))
WHERE c.lane = $1 AND c.personal_digest IS NULL
    AND (c.state IS NULL OR EXISTS (
        SELECT FROM journal_erased_rows AS e
        WHERE e.lane = c.lane AND e.result_sequence = c.result_sequence
            AND e.journal_sequence = c.journal_sequence))
