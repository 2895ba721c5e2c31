-- The whole schema as it stands after the newest migration, ordered for reading: the state, the
-- journal, who owns a lane, who may do what. A test holds it equal to the sum of versions/*.sql.
-- Roles belong to the cluster and are made by migration 0001: funnel_consumer, funnel_api,
-- funnel_audit, all NOLOGIN. The journal's monthly partitions are made by a function, below.

--------------------------------------------------------------------------------------------------
-- The state: one row for each candidate, written only by the lane of its organization.

CREATE TABLE candidates (
    organization_id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    first_name text NOT NULL,
    last_name text NOT NULL,
    email text NOT NULL,
    phone text,
    status text NOT NULL CHECK (status IN ('new', 'contacted', 'screening', 'interview',
                                           'offer', 'hired', 'rejected', 'withdrawn')),
    pipeline_stage text COLLATE "C",
    rating smallint CHECK (rating BETWEEN 0 AND 5),
    source text,
    tags text[] NOT NULL,
    attributes jsonb NOT NULL,
    version bigint NOT NULL CHECK (version >= 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (organization_id, candidate_id)
) WITH (fillfactor = 85);

--------------------------------------------------------------------------------------------------
-- The journal: audit, outbox, deduplication and answer, one row for each record settled.
-- Append-only by grants; range-partitioned by month; partitions are dropped whole.

CREATE TABLE journal (
    -- when and where in the lane
    recorded_at timestamptz NOT NULL,
    lane integer NOT NULL,
    journal_sequence bigint NOT NULL,
    result_sequence bigint NOT NULL,  -- of the result that closes this row's unit
    change_sequence bigint,           -- where a candidate changed
    kind text NOT NULL CHECK (kind IN ('command', 'reroute', 'dead_letter')),
    source_offset bigint NOT NULL,
    -- which command
    identity uuid,
    digest bytea,
    organization_id uuid,
    candidate_id uuid,
    command_id text,
    command_source text,
    command_type text,
    actor text,
    -- how it was settled
    outcome text,
    reason text,
    version bigint,
    previous_version bigint,
    details json,
    change json,
    forward bytea,
    traceparent text,
    tracestate text,
    builder smallint NOT NULL,        -- the version of the code that builds events from this row
    PRIMARY KEY (lane, result_sequence, journal_sequence, recorded_at)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX journal_identity ON journal (identity) WHERE identity IS NOT NULL;
CREATE INDEX journal_candidate_versions ON journal (organization_id, candidate_id, version)
    WHERE change_sequence IS NOT NULL;

-- Makes the journal's partitions for every month up to `until`; tells where they end.
-- SECURITY DEFINER: the consumer may call it, and has no other right to create anything.
CREATE FUNCTION ensure_journal_partitions(until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    month timestamp := date_trunc('month', clock_timestamp());
    partition_name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gulf-funnel.journal-partitions'));
    WHILE month <= least(until, clock_timestamp() + interval '1 year') LOOP
        partition_name := 'journal_' || to_char(month, 'YYYY_MM');
        IF to_regclass('public.' || partition_name) IS NULL THEN
            -- LIKE and ATTACH instead of PARTITION OF: writers are not locked out.
            EXECUTE format('CREATE TABLE public.%I (LIKE public.journal INCLUDING CONSTRAINTS)',
                           partition_name);
            EXECUTE format('ALTER TABLE public.journal ATTACH PARTITION public.%I '
                           'FOR VALUES FROM (%L) TO (%L)', partition_name,
                           month::text || '+00', (month + interval '1 month')::text || '+00');
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN month AT TIME ZONE 'UTC';
END
$$;

-- What no result could answer, byte for byte; the journal row of the same sequence points here.
CREATE TABLE dead_letters (
    lane integer NOT NULL,
    result_sequence bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    source_offset bigint NOT NULL,
    error_code text NOT NULL,
    error_detail text NOT NULL,
    organization_id uuid,
    record bytea NOT NULL,
    PRIMARY KEY (lane, result_sequence)
);
CREATE INDEX dead_letters_recorded_at ON dead_letters (recorded_at);

--------------------------------------------------------------------------------------------------
-- Who is alive, and who owns what.

-- A consumer process holds its lanes for as long as its lease here is in the future.
CREATE TABLE consumers (
    consumer_id text PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Ownership, offset, fence and numbering of one partition of the commands topic, in one row.
CREATE TABLE lanes (
    lane integer PRIMARY KEY CHECK (lane >= 0),
    partitions_total integer NOT NULL CHECK (partitions_total > lane),
    commands_topic text NOT NULL,
    cluster_id text NOT NULL,
    -- ownership
    owner text,
    owner_epoch bigint NOT NULL DEFAULT 0,
    -- offset
    next_offset bigint NOT NULL DEFAULT 0,
    last_record_offset bigint,
    last_record_timestamp bigint,
    last_record_digest bytea,
    -- numbering
    journal_sequence bigint NOT NULL DEFAULT 0,
    result_sequence bigint NOT NULL DEFAULT 0,
    change_sequence bigint NOT NULL DEFAULT 0,
    published_result_sequence bigint NOT NULL DEFAULT 0,
    published_end_offset bigint NOT NULL DEFAULT 0,
    last_recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    -- why it stands still, for a person
    halted text,
    CHECK (published_result_sequence <= result_sequence)
) WITH (fillfactor = 20);

-- The versions this database has; kept by the runner, as dbmate keeps it.
CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY);

--------------------------------------------------------------------------------------------------
-- Who may do what. No role may change or remove a journal row.

GRANT USAGE ON SCHEMA public TO funnel_consumer, funnel_api, funnel_audit;
GRANT SELECT ON schema_migrations TO PUBLIC;

GRANT SELECT, INSERT ON journal, dead_letters TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE ON lanes, candidates TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE, DELETE ON consumers TO funnel_consumer;
REVOKE ALL ON FUNCTION ensure_journal_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_journal_partitions(timestamptz) TO funnel_consumer;

GRANT SELECT ON candidates, journal, lanes TO funnel_api;
GRANT SELECT ON candidates, journal, lanes, dead_letters, consumers TO funnel_audit;

-- The second wall between organizations: the API sees the one that its transaction names.
ALTER TABLE candidates ENABLE ROW LEVEL SECURITY;
ALTER TABLE journal ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON candidates TO funnel_consumer, funnel_audit USING (true) WITH CHECK (true);
CREATE POLICY everything ON journal TO funnel_consumer, funnel_audit USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON candidates FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON journal FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
