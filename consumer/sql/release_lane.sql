-- Hands a lane over: its next owner need not wait for a lease to end.
UPDATE lanes SET owner = NULL WHERE lane = $1 AND owner_epoch = $2
