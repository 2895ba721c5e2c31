-- A lane's part of the checkpoint: how many candidates, one digest over them, and whether a next
-- one is being written. Format 1 of the chain.
SELECT count(h.candidate_id) AS rows_total,
       sha256(coalesce(
           string_agg(h.row_digest, ''::bytea ORDER BY h.organization_id, h.candidate_id),
           ''::bytea)) AS digest,
       EXISTS (SELECT FROM checkpoints WHERE lane = $1 AND written_at IS NULL) AS under_way
FROM (
    SELECT c.organization_id, c.candidate_id,
           sha256(
               record_send(ROW(
                   c.organization_id, c.candidate_id, c.lane, c.version, c.recorded_at,
                   c.result_sequence, c.journal_sequence))
               || coalesce(
                   c.personal_digest,
                   sha256(coalesce(uuid_send(s.salt), ''::bytea) || record_send(ROW(c.state))))
           ) AS row_digest
    FROM checkpoint_candidates AS c
    LEFT JOIN journal_salts AS s
        ON s.organization_id = c.organization_id AND s.candidate_id = c.candidate_id
    WHERE c.lane = $1
) AS h
