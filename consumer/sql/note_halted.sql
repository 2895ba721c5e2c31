-- Keeps for operators why a lane stands still, or that it does no longer.
UPDATE lanes SET halted = $3 WHERE lane = $1 AND owner_epoch = $2 AND halted IS DISTINCT FROM $3
