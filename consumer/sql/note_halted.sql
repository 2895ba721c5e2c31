-- Keeps for operators why a lane stands still.
UPDATE lanes SET halted = $3 WHERE lane = $1 AND owner_epoch = $2
