-- Takes up to $3 lanes whose owner is gone, and fences that owner by a new epoch. A row that a
-- paused owner still holds is skipped until its transaction times out.
UPDATE lanes
SET owner = $1, owner_epoch = owner_epoch + 1
WHERE lane IN (
    SELECT l.lane FROM lanes AS l
    WHERE l.lane <> ALL ($2::integer[])
      AND (l.owner IS NULL OR l.owner = $1 OR NOT EXISTS (
          SELECT FROM consumers AS c
          WHERE c.consumer_id = l.owner AND c.lease_until > clock_timestamp()))
    ORDER BY l.lane
    LIMIT $3
    FOR NO KEY UPDATE SKIP LOCKED)
RETURNING lane, owner_epoch
