-- The table that dbmate keeps too; whoever checks the schema's version may read it.
CREATE TABLE IF NOT EXISTS public.schema_migrations (version varchar NOT NULL PRIMARY KEY);
GRANT SELECT ON public.schema_migrations TO PUBLIC;
