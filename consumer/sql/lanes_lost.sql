-- Those of a consumer's lanes that have another epoch than it was given.
SELECT claimed.lane, claimed.owner_epoch
FROM unnest($1::integer[], $2::bigint[]) AS claimed (lane, owner_epoch)
JOIN lanes USING (lane)
WHERE lanes.owner_epoch <> claimed.owner_epoch
