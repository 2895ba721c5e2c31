-- The journal's indexes: how to drop each, and how to make it again.
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname,
              pg_get_constraintdef(oid)) AS create
FROM pg_constraint
WHERE contype = 'p' AND conrelid = 'journal'::regclass
UNION ALL
SELECT format('DROP INDEX %s', indexrelid::regclass),
       replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
FROM pg_index
WHERE indrelid = 'journal'::regclass AND NOT indisprimary
