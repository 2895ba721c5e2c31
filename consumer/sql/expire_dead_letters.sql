-- Forgets up to $2 dead letters that are older than $1; tells how many.
SELECT expire_dead_letters(clock_timestamp() - $1::interval, $2)
