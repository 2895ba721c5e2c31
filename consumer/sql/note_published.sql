-- Remembers how far the output got when no lane transaction comes along to carry it, and since when
-- an open transaction holds the lane. What halted it is over once it has proved that it works.
UPDATE lanes
SET published_result_sequence = greatest(published_result_sequence, $3),
    published_end_offset = greatest(published_end_offset, $4),
    halted = CASE WHEN $5 THEN NULL ELSE halted END,
    held_since = CASE WHEN $6 THEN coalesce(held_since, clock_timestamp()) END
WHERE lane = $1 AND owner_epoch = $2
