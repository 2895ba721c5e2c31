-- Remembers how far the output got when no lane transaction comes along to carry it, and that the
-- lane runs: what halted it before is over.
UPDATE lanes
SET published_result_sequence = greatest(published_result_sequence, $3),
    published_end_offset = greatest(published_end_offset, $4),
    halted = NULL
WHERE lane = $1 AND owner_epoch = $2
