-- The journal's partitions, oldest first, and the database's clock.
SELECT p.*, clock_timestamp() AS now FROM journal_partitions() AS p
