-- What a rebuilt state depends on beside the rows that are added to the journal: the schema, and
-- when months were last dropped.
SELECT concat_ws(', ', (SELECT max(version) FROM schema_migrations),
                 (SELECT max(dropped_at) FROM checkpoints))
