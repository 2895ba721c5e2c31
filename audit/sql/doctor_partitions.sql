-- The names of the journal's partitions: journal_YYYY_MM, each a month.
SELECT inhrelid::regclass::text AS name
FROM pg_inherits WHERE inhparent = 'public.journal'::regclass
ORDER BY name
