-- How far the output got, within a lane transaction that has to see it.
UPDATE lanes
SET published_result_sequence = greatest(published_result_sequence, $3),
    published_end_offset = greatest(published_end_offset, $4)
WHERE lane = $1 AND owner_epoch = $2
