-- migrate:up

-- Roles. A process logs in as any member and takes its role with SET ROLE: the consumer writes,
-- the API reads one organization at a time, the auditor reads everything.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['funnel_consumer', 'funnel_api', 'funnel_audit'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster was migrated at the same moment
            END;
        END IF;
    END LOOP;
END
$$;

-- Who is alive. A consumer process holds its lanes for as long as its lease here is in the future.
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
    owner text,
    owner_epoch bigint NOT NULL DEFAULT 0,
    next_offset bigint NOT NULL DEFAULT 0,
    last_record_offset bigint,
    last_record_timestamp bigint,
    last_record_digest bytea,
    journal_sequence bigint NOT NULL DEFAULT 0,
    result_sequence bigint NOT NULL DEFAULT 0,
    change_sequence bigint NOT NULL DEFAULT 0,
    published_result_sequence bigint NOT NULL DEFAULT 0,
    published_end_offset bigint NOT NULL DEFAULT 0,
    last_recorded_at timestamptz NOT NULL DEFAULT '-infinity',
    halted text,
    CHECK (published_result_sequence <= result_sequence)
) WITH (fillfactor = 20);

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

-- Audit, outbox, deduplication and answer: one row for each record settled.
-- Append-only by grants; range-partitioned by month; partitions are dropped whole.
CREATE TABLE journal (
    recorded_at timestamptz NOT NULL,
    lane integer NOT NULL,
    journal_sequence bigint NOT NULL,
    result_sequence bigint NOT NULL,
    change_sequence bigint,
    kind text NOT NULL CHECK (kind IN ('command', 'reroute', 'dead_letter')),
    source_offset bigint NOT NULL,
    identity uuid,
    digest bytea,
    organization_id uuid,
    candidate_id uuid,
    command_id text,
    command_source text,
    command_type text,
    actor text,
    outcome text,
    reason text,
    version bigint,
    previous_version bigint,
    details json,
    change json,
    forward bytea,
    traceparent text,
    tracestate text,
    builder smallint NOT NULL,
    PRIMARY KEY (lane, result_sequence, journal_sequence, recorded_at)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX journal_identity ON journal (identity) WHERE identity IS NOT NULL;
CREATE INDEX journal_candidate_versions ON journal (organization_id, candidate_id, version)
    WHERE change_sequence IS NOT NULL;

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
            -- COPY goes straight into the partition: it is refused where row-level security is on.
            EXECUTE format('GRANT SELECT, INSERT ON public.%I TO funnel_consumer', partition_name);
        END IF;
        month := month + interval '1 month';
    END LOOP;
    RETURN month AT TIME ZONE 'UTC';
END
$$;
REVOKE ALL ON FUNCTION ensure_journal_partitions(timestamptz) FROM PUBLIC;

-- Rights. No role may change or remove a journal row.
GRANT USAGE ON SCHEMA public TO funnel_consumer, funnel_api, funnel_audit;
GRANT EXECUTE ON FUNCTION ensure_journal_partitions(timestamptz) TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE, DELETE ON consumers TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE ON lanes, candidates TO funnel_consumer;
GRANT SELECT ON journal TO funnel_consumer;
GRANT SELECT, INSERT ON dead_letters TO funnel_consumer;
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

SELECT ensure_journal_partitions(now() + interval '2 months');

-- migrate:down

DROP FUNCTION ensure_journal_partitions(timestamptz);
DROP TABLE dead_letters, journal, candidates, lanes, consumers;
