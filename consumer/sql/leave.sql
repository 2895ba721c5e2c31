-- A consumer that stops in order leaves at once.
DELETE FROM consumers WHERE consumer_id = $1
