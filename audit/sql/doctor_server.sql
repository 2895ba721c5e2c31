-- What a doctor asks PostgreSQL about itself, with the rights of the login: it sees its own
-- sessions at least, and its transactions.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::integer AS version_number,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
       current_setting('fsync') AS fsync,
       current_setting('max_connections')::integer AS connections_max,
       (SELECT sum(numbackends) FROM pg_stat_database)::integer AS connections,
       extract(epoch FROM clock_timestamp())::float8 AS clock,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT coalesce(extract(epoch FROM max(clock_timestamp() - xact_start)), 0)::float8
        FROM pg_stat_activity WHERE pid <> pg_backend_pid())
           AS oldest_transaction_seconds,
       (SELECT coalesce(array_agg(version ORDER BY version), '{}') FROM schema_migrations)
           AS schema_versions
