-- Notes that a migration has been applied, in the migration's own transaction.
INSERT INTO public.schema_migrations (version) VALUES ($1)
