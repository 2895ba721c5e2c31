-- A partition was exported, and where to.
INSERT INTO journal_archives (partition, path, rows_total, digest) VALUES ($1, $2, $3, $4)
ON CONFLICT (partition) DO NOTHING
