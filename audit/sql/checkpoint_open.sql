-- A lane's checkpoint at a cut, if it is still to be written.
SELECT result_sequence, last_recorded_at FROM checkpoints
WHERE lane = $1 AND cut_at = $2 AND written_at IS NULL
