-- The whole schema as it stands after the newest migration, ordered for reading: the state, the
-- journal, who owns a lane, who may do what. A test holds it equal to the sum of versions/*.sql.
-- Roles belong to the cluster and are made by migrations: funnel_consumer, funnel_api,
-- funnel_audit, funnel_operator, funnel_repair, funnel_sealer, funnel_retention, funnel_eraser, all
-- NOLOGIN. The journal's monthly partitions are made by a function, below.

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

-- The only two that an update pays for.
CREATE INDEX candidates_updated_at ON candidates (organization_id, updated_at, candidate_id);
CREATE INDEX candidates_pipeline_stage ON candidates (organization_id, pipeline_stage)
    WHERE pipeline_stage IS NOT NULL;

-- What lists sort and search by and what seldom changes, apart from the state: an index there would
-- be written at each update of anything. Folded, so that case does not count. A row for each
-- candidate, written with it by the same statement; gone with it.
CREATE TABLE candidate_names (
    organization_id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    first_name text COLLATE "C" NOT NULL,
    last_name text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    PRIMARY KEY (organization_id, candidate_id),
    FOREIGN KEY (organization_id, candidate_id) REFERENCES candidates ON DELETE CASCADE
);

CREATE INDEX candidate_names_created_at
    ON candidate_names (organization_id, created_at, candidate_id);
CREATE INDEX candidate_names_last_name
    ON candidate_names (organization_id, last_name, candidate_id);
CREATE INDEX candidate_names_first_name ON candidate_names (organization_id, first_name);
CREATE INDEX candidate_names_email ON candidate_names (organization_id, email);

-- Case does not count where people search: the same everywhere, whatever the server's locale.
CREATE FUNCTION folded(words text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN lower(words COLLATE "pg_c_utf8") COLLATE "C";

--------------------------------------------------------------------------------------------------
-- The journal: audit, outbox, deduplication and answer, one row for each record settled and each
-- candidate changed in bulk. Rows of a lane with one result_sequence are a unit.
-- Append-only by grants; range-partitioned by month; partitions are dropped whole.

CREATE TABLE journal (
    -- when and where in the lane
    recorded_at timestamptz NOT NULL,
    lane integer NOT NULL,
    journal_sequence bigint NOT NULL,
    result_sequence bigint NOT NULL,  -- of the result that closes this row's unit
    change_sequence bigint,           -- where a candidate changed
    kind text NOT NULL CHECK (
        kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed', 'erased',
                 'repair')),
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
    operation_id uuid,                -- the bulk operation that it belongs to
    PRIMARY KEY (lane, result_sequence, journal_sequence, recorded_at)
) PARTITION BY RANGE (recorded_at);

CREATE INDEX journal_identity ON journal (identity) WHERE identity IS NOT NULL;
CREATE INDEX journal_candidate_versions ON journal (organization_id, candidate_id, version)
    WHERE change_sequence IS NOT NULL;
CREATE INDEX journal_dead_letters ON journal (lane, source_offset) WHERE kind = 'dead_letter';
CREATE INDEX journal_dry_runs ON journal (organization_id, recorded_at)
    WHERE kind = 'command' AND operation_id IS NOT NULL AND outcome = 'unchanged';
CREATE INDEX journal_other_arrivals ON journal (organization_id, command_id)
    WHERE identity IS NULL AND kind IN ('command', 'reroute', 'dead_letter');
-- Finds a candidate's rows that changed nothing, for its erasure. They are few.
CREATE INDEX journal_candidate_others ON journal (organization_id, candidate_id, recorded_at)
    WHERE change_sequence IS NULL AND candidate_id IS NOT NULL;
-- The feed of one organization: one lane writes it, so its change sequences are its order.
CREATE INDEX journal_changes ON journal (organization_id, change_sequence)
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
            -- COPY goes straight into the partition: it is refused where row-level security is on.
            EXECUTE format('GRANT SELECT, INSERT ON public.%I TO funnel_consumer', partition_name);
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
    redrive_of text,                  -- the first death of a record that was redriven
    PRIMARY KEY (lane, result_sequence)
);
CREATE INDEX dead_letters_queue ON dead_letters (recorded_at, lane, result_sequence);

-- Whose a dead letter is: that of the organization in its data or else, as commands are keyed by
-- organization, in its key; null where neither tells. `record` is packed (contract/record.py).
CREATE FUNCTION dead_letter_owner(organization_id uuid, record bytea) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN organization_id IS NOT NULL THEN organization_id
    WHEN substring(record FROM 13 FOR 4) = '\x00000024'
        AND encode(substring(record FROM 17 FOR 36), 'escape')
            ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
        THEN encode(substring(record FROM 17 FOR 36), 'escape')::uuid
END;
CREATE INDEX dead_letters_owner
    ON dead_letters (dead_letter_owner(organization_id, record), lane, result_sequence)
    WHERE dead_letter_owner(organization_id, record) IS NOT NULL;

-- The audit trail of redrives: who sent which dead letter where, when, and what became of it.
-- A row is written before the record is sent, and completed afterwards.
CREATE TABLE redrives (
    redrive_id uuid PRIMARY KEY,
    lane integer NOT NULL,
    result_sequence bigint NOT NULL,
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    again boolean NOT NULL,
    sent_lane integer,
    sent_offset bigint,
    outcome text,
    reason text,
    ended_lane integer,
    ended_sequence bigint,
    ended_at timestamptz
);
CREATE INDEX redrives_dead_letter ON redrives (lane, result_sequence, requested_at);
-- Nobody sends a dead letter while another does.
CREATE UNIQUE INDEX redrives_under_way ON redrives (lane, result_sequence) WHERE ended_at IS NULL;

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
    -- since when another client's open transaction keeps it from the commands behind
    held_since timestamptz,
    CHECK (published_result_sequence <= result_sequence)
) WITH (fillfactor = 20);

-- The versions this database has; kept by the runner, as dbmate keeps it.
CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY);

--------------------------------------------------------------------------------------------------
-- What operators work with.

-- The journal row that settled, sent on or set aside the record at a place of the commands topic:
-- results follow the records' order, so their sequences can be searched by halving.
CREATE FUNCTION journal_row_at(at_lane integer, at_offset bigint) RETURNS SETOF journal
LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    lower_end bigint := 1;
    upper_end bigint;
    middle bigint;
    found_offset bigint;
BEGIN
    SELECT l.result_sequence INTO upper_end FROM lanes AS l WHERE l.lane = at_lane;
    WHILE lower_end < upper_end LOOP
        middle := (lower_end + upper_end) / 2;
        SELECT j.source_offset INTO found_offset FROM journal AS j
        WHERE j.lane = at_lane AND j.result_sequence = middle LIMIT 1;
        -- Nothing there: its partition was dropped, so all that is older was, too.
        IF found_offset IS NULL OR found_offset < at_offset THEN
            lower_end := middle + 1;
        ELSE
            upper_end := middle;
        END IF;
    END LOOP;
    RETURN QUERY
        SELECT * FROM journal AS j
        WHERE j.lane = at_lane AND j.result_sequence = lower_end AND j.source_offset = at_offset
            AND j.kind IN ('command', 'reroute', 'dead_letter')
        LIMIT 1;
END
$$;

-- Forgets dead letters from before an instant, some at a time: only what is published, and nothing
-- that is being sent.
CREATE FUNCTION expire_dead_letters(before timestamptz, rows_max integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH expired AS (
        DELETE FROM public.dead_letters AS d
        USING (
            SELECT o.lane, o.result_sequence FROM public.dead_letters AS o
            JOIN public.lanes AS l
                ON l.lane = o.lane AND l.published_result_sequence >= o.result_sequence
            WHERE o.recorded_at < before
                AND NOT EXISTS (
                    SELECT FROM public.redrives AS r
                    WHERE r.lane = o.lane AND r.result_sequence = o.result_sequence
                        AND r.ended_at IS NULL)
            ORDER BY o.recorded_at
            LIMIT rows_max
            FOR UPDATE OF o SKIP LOCKED) AS old
        WHERE d.lane = old.lane AND d.result_sequence = old.result_sequence
        RETURNING 1)
    SELECT count(*) FROM expired
$$;

-- Bulk operations: large ones as they go on, small ones as they were settled.
CREATE TABLE bulk_operations (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    lane integer NOT NULL,
    parent_id uuid,                   -- of which operation this one tries the failed items again
    -- which command it does, and for whom
    command_id text NOT NULL,
    command_source text NOT NULL,
    actor text NOT NULL,
    traceparent text,
    tracestate text,
    type text NOT NULL,
    changes json NOT NULL,
    filter json,
    on_conflict text NOT NULL CHECK (on_conflict IN ('reject', 'merge', 'overwrite')),
    dry_run boolean NOT NULL,
    -- how far it is; a cancelled one may still have pending items, which are cancelled in chunks
    status text NOT NULL CHECK (status IN ('running', 'paused', 'completed', 'cancelled')),
    total integer NOT NULL,
    applied integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    conflict integer NOT NULL DEFAULT 0,
    not_found integer NOT NULL DEFAULT 0,
    invalid integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    pending integer NOT NULL CHECK (pending >= 0),
    next_ordinal integer NOT NULL DEFAULT 0,
    differences json,                 -- of a dry run, the first 100
    error text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    PRIMARY KEY (organization_id, operation_id),
    CHECK (applied + unchanged + conflict + not_found + invalid + cancelled + pending = total),
    CHECK ((completed_at IS NOT NULL) = (status = 'completed'
        OR status = 'cancelled' AND pending = 0))
) WITH (fillfactor = 50);

-- What a lane's owner still has to do, in the order in which it takes turns.
CREATE INDEX bulk_operations_open ON bulk_operations (lane, organization_id, updated_at)
    WHERE completed_at IS NULL AND status <> 'paused';
CREATE INDEX bulk_operations_newest ON bulk_operations (organization_id, created_at, operation_id);
CREATE INDEX bulk_operations_ended ON bulk_operations (lane, completed_at)
    WHERE completed_at IS NOT NULL;

-- Work not done yet, a row for each chunk of items; gone once it is done.
CREATE TABLE bulk_operation_chunks (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    first_ordinal integer NOT NULL,
    candidate_ids uuid[] STORAGE EXTERNAL NOT NULL,  -- random: nothing to compress
    expected_versions bigint[],
    PRIMARY KEY (organization_id, operation_id, first_ordinal)
);

-- What became of each item, written once, when it was decided. A candidate at `version`, if any.
CREATE TABLE bulk_operation_items (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    ordinal integer NOT NULL,
    candidate_id uuid NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('applied', 'unchanged', 'conflict', 'not_found',
                                             'invalid', 'cancelled')),
    version bigint,
    details json,                     -- of a failure: what the result of a single command tells
    PRIMARY KEY (organization_id, operation_id, ordinal)
);
CREATE INDEX bulk_operation_items_failed
    ON bulk_operation_items (organization_id, operation_id, outcome, ordinal)
    WHERE outcome IN ('conflict', 'not_found', 'invalid', 'cancelled');

--------------------------------------------------------------------------------------------------
-- Tamper evidence and retention.

-- The chain of each lane: a link seals the rows of a range of results, or a cut, behind which the
-- journal was dropped. `chain` is a hash over the link before and everything else in this one.
CREATE TABLE journal_seals (
    lane integer NOT NULL,
    link bigint NOT NULL CHECK (link >= 1),
    kind text NOT NULL CHECK (kind IN ('rows', 'cut')),
    first_result bigint NOT NULL,
    last_result bigint NOT NULL,
    rows_total bigint NOT NULL,       -- of a cut: candidates in its checkpoint
    last_recorded_at timestamptz NOT NULL,
    digest bytea NOT NULL,            -- of the rows, or of the checkpoint
    format smallint NOT NULL,         -- how the digest is made
    sealed_at timestamptz NOT NULL,
    chain bytea NOT NULL,
    PRIMARY KEY (lane, link)
);

-- What the personal part of a candidate's rows is hashed with, so that nobody can guess it from
-- its digest once both are erased.
CREATE TABLE journal_salts (
    organization_id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    salt uuid NOT NULL DEFAULT gen_random_uuid(),
    PRIMARY KEY (organization_id, candidate_id)
);

-- The salted digest of the personal part of rows that were sealed, and then erased.
CREATE TABLE journal_erased_rows (
    lane integer NOT NULL,
    result_sequence bigint NOT NULL,
    journal_sequence bigint NOT NULL,
    personal_digest bytea NOT NULL,
    PRIMARY KEY (lane, result_sequence, journal_sequence)
);

-- Where a lane's journal begins: a row for each lane and cut. What was recorded before `cut_at` is
-- gone once `dropped_at` is there; until then it may be there still, as may the rest of this row.
CREATE TABLE checkpoints (
    lane integer NOT NULL,
    cut_at timestamptz NOT NULL,
    partition text NOT NULL,
    -- the last of each that is gone
    result_sequence bigint NOT NULL,
    journal_sequence bigint NOT NULL,
    change_sequence bigint NOT NULL,
    last_recorded_at timestamptz NOT NULL,
    written_at timestamptz,           -- since when the lane's candidates are as of this cut
    dropped_at timestamptz,
    PRIMARY KEY (lane, cut_at)
);

-- The state at the newest cut: each candidate whose history begins before it, at the version that
-- it had then. Its journal goes on with the next version, or with an older one where the partition
-- is not dropped yet. A candidate without state was erased.
CREATE TABLE checkpoint_candidates (
    organization_id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    lane integer NOT NULL,
    version bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    -- the journal row that it comes from
    result_sequence bigint NOT NULL,
    journal_sequence bigint NOT NULL,
    state json,
    personal_digest bytea,            -- of the state, once that is erased
    PRIMARY KEY (organization_id, candidate_id)
);

-- Partitions that were exported, and where to.
CREATE TABLE journal_archives (
    partition text PRIMARY KEY,
    path text NOT NULL,
    rows_total bigint NOT NULL,
    digest text NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The digest of what may be personal in a journal row: of one that names a candidate actor, change,
-- forward and, where the command was invalid, details; of a dry run, which tells of many, details.
-- All else, in every row, the chain covers in the clear.
CREATE FUNCTION journal_personal_digest(salt uuid, j journal) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(coalesce(uuid_send(salt), ''::bytea) || record_send(ROW(
        CASE WHEN j.candidate_id IS NOT NULL THEN j.actor END,
        CASE WHEN CASE WHEN j.candidate_id IS NOT NULL THEN coalesce(j.reason = 'invalid', false)
                       ELSE coalesce(j.operation_id IS NOT NULL AND j.outcome = 'unchanged', false)
                  END
             THEN j.details END,
        CASE WHEN j.candidate_id IS NOT NULL THEN j.change END,
        CASE WHEN j.candidate_id IS NOT NULL THEN j.forward END)))
$$;

-- Forgets a candidate's salt, once the digests of all rows that were hashed with it are kept; those
-- that are sealed later get a new one. Tells how many salts there were.
CREATE FUNCTION forget_salt(of_organization uuid, of_candidate uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM public.journal_salts AS s
    WHERE s.organization_id = of_organization AND s.candidate_id = of_candidate;
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END
$$;

-- The journal's partitions, oldest first, each with what must be so before it may be dropped.
CREATE FUNCTION journal_partitions() RETURNS TABLE (
    partition text, starts_at timestamptz, ends_at timestamptz, bytes bigint, empty boolean,
    published boolean, sealed boolean, archived boolean, checkpointed boolean)
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    WITH parts AS (
        SELECT c.relname::text AS partition, pg_total_relation_size(c.oid) AS bytes,
               to_date(right(c.relname::text, 7), 'YYYY_MM')::timestamp AS month
        FROM pg_inherits AS i
        JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'journal'::regclass AND c.relname ~ '^journal_\d{4}_\d\d$'
    ), bounds AS (
        SELECT p.partition, p.bytes, p.month AT TIME ZONE 'UTC' AS starts_at,
               (p.month + interval '1 month') AT TIME ZONE 'UTC' AS ends_at
        FROM parts AS p
    )
    SELECT b.partition, b.starts_at, b.ends_at, b.bytes, coalesce(bool_and(e.last IS NULL), true),
           coalesce(bool_and(e.last IS NULL OR e.last <= l.published_result_sequence), true),
           coalesce(bool_and(e.last IS NULL OR coalesce(e.last <= (
               SELECT s.last_result FROM journal_seals AS s
               WHERE s.lane = l.lane AND s.kind = 'rows' ORDER BY s.link DESC LIMIT 1), false)), true),
           EXISTS (SELECT FROM journal_archives AS a WHERE a.partition = b.partition),
           coalesce(bool_and(e.last IS NULL OR EXISTS (
               SELECT FROM checkpoints AS c
               WHERE c.lane = l.lane AND c.cut_at = b.ends_at AND c.result_sequence = e.last
                   AND c.written_at IS NOT NULL)), true)
    FROM bounds AS b
    LEFT JOIN lanes AS l ON true
    LEFT JOIN LATERAL (
        SELECT max(j.result_sequence) AS last FROM journal AS j
        WHERE j.lane = l.lane AND j.recorded_at >= b.starts_at AND j.recorded_at < b.ends_at
    ) AS e ON true
    GROUP BY b.partition, b.starts_at, b.ends_at, b.bytes
    ORDER BY b.starts_at
$$;

-- Drops the oldest partition as a whole. Refuses unless everything in it is older than
-- deduplication reaches back, published, sealed, part of a checkpoint and, if asked for, archived.
-- Digests of its erased rows go first: nobody hashes these rows again, and DROP locks readers out.
CREATE FUNCTION drop_journal_partition(
    of_partition text, horizon interval, archive_needed boolean
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    p record;
    refusal text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('gulf-funnel.journal-partitions'));
    SELECT * INTO p FROM public.journal_partitions() AS o LIMIT 1;
    refusal := CASE
        WHEN p.partition IS DISTINCT FROM of_partition THEN 'not_oldest'
        WHEN p.ends_at > clock_timestamp() - greatest(horizon, interval '1 day') THEN 'too_young'
        WHEN NOT p.published THEN 'unpublished'
        WHEN NOT p.sealed THEN 'unsealed'
        WHEN archive_needed AND NOT p.archived AND NOT p.empty THEN 'not_archived'
        WHEN NOT p.checkpointed THEN 'no_checkpoint'
    END;
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = refusal;
    END IF;
    DELETE FROM public.journal_erased_rows AS e USING public.checkpoints AS c
    WHERE c.cut_at = p.ends_at AND e.lane = c.lane AND e.result_sequence <= c.result_sequence;
    EXECUTE format('DROP TABLE public.%I', of_partition);
    UPDATE public.checkpoints AS c SET dropped_at = clock_timestamp()
    WHERE c.cut_at = p.ends_at AND c.dropped_at IS NULL;
END
$$;

--------------------------------------------------------------------------------------------------
-- What the API reads, each in one round trip, with the rights of its caller. The organization is
-- named in a statement of its own: within one, row-level security may look before it is named.

-- Many candidates, of whatever organizations.
CREATE FUNCTION read_candidates(organizations uuid[], candidate_ids uuid[])
RETURNS SETOF candidates
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations, candidate_ids) AS a (organization_id, candidate_id)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT * FROM candidates AS c
            WHERE c.organization_id = asked.organization_id
                AND c.candidate_id = asked.candidate_id;
    END LOOP;
END
$$;

-- How each of many commands ended, of whatever organizations: the journal row that settled it
-- (too old counts only if nothing else does), or that of the dead letter at its place.
CREATE FUNCTION read_commands(
    organizations uuid[], command_ids text[], identities_min uuid[], identities_max uuid[],
    lanes integer[], source_offsets bigint[]
) RETURNS TABLE (ordinal bigint, ended journal)
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations, command_ids, identities_min, identities_max, lanes,
                             source_offsets) WITH ORDINALITY
            AS a (organization_id, command_id, identity_min, identity_max, lane, source_offset,
                  ordinal)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT asked.ordinal, j FROM journal AS j
            WHERE j.organization_id = asked.organization_id
                AND j.identity BETWEEN asked.identity_min AND asked.identity_max
                AND j.command_id = asked.command_id
            ORDER BY j.reason IS NOT DISTINCT FROM 'too_old', j.recorded_at DESC,
                j.result_sequence DESC
            LIMIT 1;
        CONTINUE WHEN FOUND OR asked.lane IS NULL;
        RETURN QUERY
            SELECT asked.ordinal, j FROM journal AS j
            WHERE j.organization_id = asked.organization_id
                AND j.kind = 'dead_letter'
                AND j.lane = asked.lane
                AND j.source_offset = asked.source_offset
                AND coalesce(j.command_id, asked.command_id) = asked.command_id
            LIMIT 1;
    END LOOP;
END
$$;

-- A page of candidates, in the order of `sort`, after a place in it. Two ways lead there:
-- a filter that an index knows and that few pass (`set_rows_max`) gives all that pass it, to be
-- sorted; else the index of the order is walked, at most `walk_rows_max` candidates in one call.
-- `found` is null in a last row that only tells how far the walk came. STABLE: one snapshot for
-- all of it. Plans do not depend on statistics: candidates are looked up one by one, as any other
-- join may read the whole set for each of its members.
CREATE FUNCTION list_candidates(
    organization uuid, filter jsonb, sort text, after_time timestamptz, after_text text,
    after_id uuid, page_rows integer, set_rows_max integer, walk_rows_max integer
) RETURNS TABLE (place_time timestamptz, place_text text, place_id uuid, found candidates)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    ordered_by text := ltrim(sort, '-');
    direction text := CASE WHEN sort LIKE '-%' THEN 'DESC' ELSE 'ASC' END;
    ordered_table text := CASE ordered_by WHEN 'updated_at' THEN 'candidates'
                                          ELSE 'candidate_names' END;
    since timestamptz := filter ->> (CASE ordered_by WHEN 'updated_at' THEN 'updated_since'
                                                     WHEN 'created_at' THEN 'created_since' END);
    q text := folded(filter ->> 'q');
    tags text[] := ARRAY(SELECT jsonb_array_elements_text(filter -> 'tags'));
    names text[] := ARRAY(SELECT jsonb_object_keys(filter -> 'attributes'));
    after text := '';
    conditions text := '';
    candidate_set text;
    source text;
    page text;
    total bigint;
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);

    -- Where the page begins, in the order's own index.
    IF after_id IS NOT NULL THEN
        after := format(' AND (w.%I, w.candidate_id) %s (%s, $6)', ordered_by,
                        CASE direction WHEN 'DESC' THEN '<' ELSE '>' END,
                        CASE ordered_by WHEN 'last_name' THEN '$5' ELSE '$4' END);
    END IF;
    IF since IS NOT NULL THEN
        after := after || format(' AND w.%I >= $3', ordered_by);
    END IF;

    -- What each candidate is held against; costly ones last.
    IF filter ? 'status' THEN
        conditions := conditions || $c$ AND c.status = $2 ->> 'status'$c$;
    END IF;
    IF filter ? 'source' THEN
        conditions := conditions || $c$ AND c.source = $2 ->> 'source'$c$;
    END IF;
    IF filter ? 'rating_min' THEN
        conditions := conditions || $c$ AND c.rating >= ($2 ->> 'rating_min')::smallint$c$;
    END IF;
    IF filter ? 'rating_max' THEN
        conditions := conditions || $c$ AND c.rating <= ($2 ->> 'rating_max')::smallint$c$;
    END IF;
    IF filter ? 'pipeline_stage' THEN
        conditions := conditions || $c$ AND c.pipeline_stage >= $2 ->> 'pipeline_stage'
            AND c.pipeline_stage < ($2 ->> 'pipeline_stage') || '/'$c$;  -- what follows a dot
    END IF;
    IF filter ? 'updated_since' THEN
        conditions := conditions || $c$ AND c.updated_at >= ($2 ->> 'updated_since')::timestamptz$c$;
    END IF;
    IF filter ? 'created_since' THEN
        conditions := conditions || $c$ AND c.created_at >= ($2 ->> 'created_since')::timestamptz$c$;
    END IF;
    IF filter ? 'q' THEN
        conditions := conditions || $c$ AND (starts_with(folded(c.last_name), $7)
            OR starts_with(folded(c.first_name), $7) OR starts_with(folded(c.email), $7))$c$;
    END IF;
    IF cardinality(tags) > 0 THEN
        conditions := conditions || ' AND c.tags @> $8';
    END IF;
    FOR number IN 1 .. cardinality(names) LOOP
        conditions := conditions || format(
            $c$ AND c.attributes ->> ($9)[%s] = $2 -> 'attributes' ->> ($9)[%s]$c$, number, number);
    END LOOP;

    -- The narrowest filter that an index knows, if few pass it.
    FOREACH candidate_set IN ARRAY ARRAY[
        CASE WHEN filter ? 'q' THEN $s$
            SELECT n.candidate_id FROM candidate_names AS n WHERE n.organization_id = $1 AND
                n.last_name >= $7 AND n.last_name < $7 || chr(1114111)
            UNION ALL
            SELECT n.candidate_id FROM candidate_names AS n WHERE n.organization_id = $1 AND
                n.first_name >= $7 AND n.first_name < $7 || chr(1114111)
            UNION ALL
            SELECT n.candidate_id FROM candidate_names AS n WHERE n.organization_id = $1 AND
                n.email >= $7 AND n.email < $7 || chr(1114111)$s$ END,
        CASE WHEN filter ? 'pipeline_stage' THEN $s$
            SELECT c.candidate_id FROM candidates AS c WHERE c.organization_id = $1 AND
                c.pipeline_stage >= $2 ->> 'pipeline_stage'
                AND c.pipeline_stage < ($2 ->> 'pipeline_stage') || '/'$s$ END,
        CASE WHEN filter ? 'updated_since' AND ordered_by <> 'updated_at' THEN $s$
            SELECT c.candidate_id FROM candidates AS c WHERE c.organization_id = $1 AND
                c.updated_at >= ($2 ->> 'updated_since')::timestamptz$s$ END,
        CASE WHEN filter ? 'created_since' AND ordered_by <> 'created_at' THEN $s$
            SELECT n.candidate_id FROM candidate_names AS n WHERE n.organization_id = $1 AND
                n.created_at >= ($2 ->> 'created_since')::timestamptz$s$ END
    ] LOOP
        CONTINUE WHEN candidate_set IS NULL;
        EXECUTE format('SELECT count(*) FROM (SELECT FROM (%s) AS s LIMIT $3) AS s', candidate_set)
            INTO total USING organization, filter, set_rows_max + 1, NULL, NULL, NULL, q;
        IF total <= set_rows_max THEN
            source := format(
                'SELECT w.%1$I AS place, w.candidate_id'
                ' FROM (SELECT DISTINCT candidate_id FROM (%2$s) AS s) AS s CROSS JOIN LATERAL ('
                ' SELECT * FROM %3$I AS w WHERE w.organization_id = $1 AND'
                ' w.candidate_id = s.candidate_id LIMIT 1) AS w WHERE true%4$s',
                ordered_by, candidate_set, ordered_table, after);
            EXIT;
        END IF;
    END LOOP;
    IF source IS NULL THEN
        source := format(
            'SELECT w.%1$I AS place, w.candidate_id FROM %2$I AS w WHERE w.organization_id = $1 AND'
            ' true%3$s ORDER BY w.%1$I %4$s, w.candidate_id %4$s LIMIT $10',
            ordered_by, ordered_table, after, direction);
    END IF;

    page := format(
        'SELECT %1$s, w.candidate_id, ROW(c.*)::candidates FROM (%2$s) AS w CROSS JOIN LATERAL ('
        ' SELECT * FROM candidates AS c WHERE c.organization_id = $1 AND'
        ' c.candidate_id = w.candidate_id LIMIT 1) AS c WHERE true%3$s'
        ' ORDER BY w.place %4$s, w.candidate_id %4$s LIMIT $11',
        CASE ordered_by WHEN 'last_name' THEN 'NULL::timestamptz, w.place::text'
                        ELSE 'w.place, NULL::text' END,
        source, conditions, direction);
    RETURN QUERY EXECUTE page USING organization, filter, since, after_time, after_text, after_id,
        q, tags, names, walk_rows_max, page_rows;
    GET DIAGNOSTICS total = ROW_COUNT;
    IF total = page_rows OR source NOT LIKE '%LIMIT $10' THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT %s, w.candidate_id, NULL::candidates FROM (%s) AS w OFFSET $10 - 1',
        CASE ordered_by WHEN 'last_name' THEN 'NULL::timestamptz, w.place::text'
                        ELSE 'w.place, NULL::text' END,
        source)
        USING organization, filter, since, after_time, after_text, after_id, q, tags, names,
            walk_rows_max;
END
$$;

-- One candidate as it is and, if the journal must tell, as it was: at a version, or at an instant.
-- `begins` tells whether the journal reaches back to its first version.
CREATE FUNCTION read_past(
    organization uuid, candidate uuid, wanted_version bigint, as_of timestamptz
) RETURNS TABLE (present candidates, past json, begins boolean)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    wanted bigint := wanted_version;
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    SELECT c.* INTO present FROM candidates AS c
    WHERE c.organization_id = organization AND c.candidate_id = candidate;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF wanted = present.version OR as_of >= present.updated_at THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF as_of IS NOT NULL THEN
        SELECT j.version INTO wanted FROM journal AS j
        WHERE j.organization_id = organization AND j.candidate_id = candidate
            AND j.change_sequence IS NOT NULL AND j.recorded_at <= as_of
        ORDER BY j.version DESC LIMIT 1;
    END IF;
    SELECT j.change INTO past FROM journal AS j
    WHERE j.organization_id = organization AND j.candidate_id = candidate
        AND j.change_sequence IS NOT NULL AND j.version = wanted
    LIMIT 1;
    begins := EXISTS (
        SELECT FROM journal AS j
        WHERE j.organization_id = organization AND j.candidate_id = candidate
            AND j.change_sequence IS NOT NULL AND j.version = 1);
    RETURN NEXT;
END
$$;

-- The versions of one candidate below a version, newest first; of one that is there.
CREATE FUNCTION read_history(
    organization uuid, candidate uuid, before_version bigint, page_rows integer
) RETURNS TABLE (present boolean, step journal)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    PERFORM FROM candidates AS c
    WHERE c.organization_id = organization AND c.candidate_id = candidate;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT true, NULL::journal;
    RETURN QUERY
        SELECT true, j FROM journal AS j
        WHERE j.organization_id = organization AND j.candidate_id = candidate
            AND j.change_sequence IS NOT NULL AND j.version < before_version
        ORDER BY j.version DESC LIMIT page_rows;
END
$$;

-- The changes after a place, oldest first, of each of many organizations. The instant of the place
-- spares the months before it.
CREATE FUNCTION read_changes(
    organizations uuid[], after_sequences bigint[], after_times timestamptz[], page_rows integer
) RETURNS TABLE (ordinal bigint, step journal)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations, after_sequences, after_times) WITH ORDINALITY
            AS a (organization_id, after_sequence, after_time, ordinal)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT asked.ordinal, j FROM journal AS j
            WHERE j.organization_id = asked.organization_id
                AND j.change_sequence > asked.after_sequence
                AND j.recorded_at >= asked.after_time
            ORDER BY j.change_sequence LIMIT page_rows;
    END LOOP;
END
$$;

-- The newest change of each of many organizations.
CREATE FUNCTION read_latest_changes(organizations uuid[])
RETURNS TABLE (ordinal bigint, change_sequence bigint, recorded_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations) WITH ORDINALITY AS a (organization_id, ordinal)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT asked.ordinal, j.change_sequence, j.recorded_at FROM journal AS j
            WHERE j.organization_id = asked.organization_id AND j.change_sequence IS NOT NULL
            ORDER BY j.change_sequence DESC LIMIT 1;
    END LOOP;
END
$$;

-- Since when the journal is kept: its oldest month begins there.
CREATE FUNCTION journal_kept_since() RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (
    SELECT min(to_date(right(c.relname, 7), 'YYYY_MM'))::timestamp AT TIME ZONE 'UTC'
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'journal'::regclass);

--------------------------------------------------------------------------------------------------
-- Erasure.

-- The proof of each erasure, and what blocks the id for good: nothing here tells of the person.
CREATE TABLE erasures (
    organization_id uuid NOT NULL,
    candidate_id uuid NOT NULL,
    lane integer NOT NULL,
    -- of the result that accepted it, and the version that the tombstone is
    result_sequence bigint NOT NULL,
    version bigint NOT NULL,
    command_id text NOT NULL,
    command_source text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    accepted_at timestamptz NOT NULL,
    -- the last result of every lane then, by lane: what had come before may name the candidate
    result_sequences bigint[] NOT NULL,
    -- how far the deferred part is
    looked_at timestamptz NOT NULL,
    letters_lane integer NOT NULL DEFAULT -1,
    letters_sequence bigint NOT NULL DEFAULT 0,
    -- what was made unreadable, and when all of it was
    journal_rows bigint NOT NULL DEFAULT 0,
    operations bigint NOT NULL DEFAULT 0,
    dead_letters bigint NOT NULL DEFAULT 0,
    completed_at timestamptz,
    -- what is gone through now, null before the first step and once all is done; how far, in the
    -- order of that phase; when that began, and when it began the last time that dead letters were
    -- gone through; whether the candidate was named since (2: dead letters once more, too)
    phase text,
    place_at timestamptz,
    place_lane integer,
    place_sequence bigint,
    place_operation uuid,
    pass_at timestamptz,
    letters_at timestamptz,
    again smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, candidate_id)
);
CREATE INDEX erasures_open ON erasures (lane, organization_id, looked_at)
    WHERE completed_at IS NULL OR phase IS NOT NULL OR again > 0;

-- A JSON list less its entries about one candidate.
CREATE FUNCTION without_candidate(entries jsonb, of_candidate uuid) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(entry ORDER BY ordinal), '[]')
    FROM jsonb_array_elements(entries) WITH ORDINALITY AS e (entry, ordinal)
    WHERE entry ->> 'candidate_id' IS DISTINCT FROM of_candidate::text
$$;

-- The state of a candidate in its lane's checkpoint. Its digest is kept as the chain has it.
CREATE FUNCTION blank_checkpoint(of_organization uuid, of_candidate uuid) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.checkpoint_candidates AS c
    SET state = NULL, personal_digest = sha256(
        uuid_send(coalesce(
            (SELECT s.salt FROM public.journal_salts AS s
             WHERE s.organization_id = of_organization AND s.candidate_id = of_candidate),
            gen_random_uuid()))
        || record_send(ROW(c.state)))
    WHERE c.organization_id = of_organization AND c.candidate_id = of_candidate
        AND c.personal_digest IS NULL
$$;

-- The next journal rows of one candidate behind a place: those that changed it in order of version
-- (`after_sequence` is the last one), or the others in order of time. Their personal columns are
-- emptied; what identifies a command and how it was settled stays, so that one sent again is
-- answered. The digest of each is kept as it was hashed, or will be. `waits`: the next one is not
-- published yet; `later`: nor is it one of those that had come when `bounds` were read. `more`:
-- there may be more.
CREATE FUNCTION blank_journal(
    of_organization uuid, of_candidate uuid, versions boolean, after_at timestamptz,
    after_lane integer, after_sequence bigint, bounds bigint[], rows_max integer,
    bytes_max bigint,
    OUT last_at timestamptz, OUT last_lane integer, OUT last_sequence bigint,
    OUT looked integer, OUT bytes bigint, OUT blanked bigint, OUT waits boolean,
    OUT later boolean, OUT more boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    lanes integer[];
    results bigint[];
    sequences bigint[];
    instants timestamptz[];
    numbers bigint[];
    found_total integer;
    salt uuid;
BEGIN
    -- Sizes as they are stored: nothing is read but the rows themselves.
    WITH found AS (
        SELECT v.*, row_number() OVER (ORDER BY v.number) AS ordinal
        FROM (
            SELECT j.lane, j.result_sequence, j.journal_sequence, j.recorded_at,
                   j.version AS number,
                   coalesce(4 * pg_column_size(j.change), 0)
                   + coalesce(4 * pg_column_size(j.details), 0) AS size
            FROM public.journal AS j
            WHERE versions AND j.organization_id = of_organization
                AND j.candidate_id = of_candidate AND j.change_sequence IS NOT NULL
                AND j.version > after_sequence
            ORDER BY j.version
            LIMIT rows_max) AS v
        UNION ALL
        SELECT o.*, row_number() OVER (ORDER BY o.recorded_at, o.lane, o.number)
        FROM (
            SELECT j.lane, j.result_sequence, j.journal_sequence, j.recorded_at,
                   j.journal_sequence AS number,
                   coalesce(octet_length(j.forward), 0)
                   + coalesce(4 * pg_column_size(j.details), 0) AS size
            FROM public.journal AS j
            WHERE NOT versions AND j.organization_id = of_organization
                AND j.candidate_id = of_candidate AND j.change_sequence IS NULL
                AND j.recorded_at >= after_at
                AND (j.recorded_at, j.lane, j.journal_sequence)
                    > (after_at, after_lane, after_sequence)
            ORDER BY j.recorded_at, j.lane, j.journal_sequence
            LIMIT rows_max) AS o
    ), numbered AS (
        SELECT f.*, f.result_sequence <= (
                   SELECT l.published_result_sequence FROM public.lanes AS l
                   WHERE l.lane = f.lane) AS published
        FROM found AS f
    ), measured AS (
        SELECT n.*, sum(n.size) OVER w - n.size AS bytes_before,
               bool_and(n.published) OVER w AS ready
        FROM numbered AS n
        WINDOW w AS (ORDER BY n.ordinal)
    ), page AS (
        SELECT * FROM measured AS m WHERE m.ready AND m.bytes_before < bytes_max
    )
    SELECT array_agg(p.lane ORDER BY p.ordinal), array_agg(p.result_sequence ORDER BY p.ordinal),
           array_agg(p.journal_sequence ORDER BY p.ordinal),
           array_agg(p.recorded_at ORDER BY p.ordinal), array_agg(p.number ORDER BY p.ordinal),
           count(*), coalesce(sum(p.size), 0), (SELECT count(*) FROM numbered),
           (SELECT m.result_sequence <= coalesce(bounds[m.lane + 1], 0) FROM measured AS m
            WHERE NOT m.ready AND m.bytes_before < bytes_max
            ORDER BY m.ordinal LIMIT 1)
    INTO lanes, results, sequences, instants, numbers, looked, bytes, found_total, waits
    FROM page AS p;
    later := waits IS FALSE;
    waits := coalesce(waits, false);
    more := NOT later AND (found_total = rows_max OR looked < found_total);
    blanked := 0;
    IF looked = 0 THEN
        RETURN;
    END IF;
    last_at := instants[looked];
    last_lane := lanes[looked];
    last_sequence := numbers[looked];
    SELECT s.salt INTO salt FROM public.journal_salts AS s
    WHERE s.organization_id = of_organization AND s.candidate_id = of_candidate;
    INSERT INTO public.journal_erased_rows
        (lane, result_sequence, journal_sequence, personal_digest)
    SELECT j.lane, j.result_sequence, j.journal_sequence,
           public.journal_personal_digest(coalesce(salt, gen_random_uuid()), j)
    FROM unnest(lanes, results, sequences, instants)
        AS d (lane, result_sequence, journal_sequence, recorded_at)
    JOIN public.journal AS j
        ON j.lane = d.lane AND j.result_sequence = d.result_sequence
        AND j.journal_sequence = d.journal_sequence AND j.recorded_at = d.recorded_at
    ON CONFLICT DO NOTHING;
    UPDATE public.journal AS j
    SET actor = NULL, change = NULL, forward = NULL,
        details = CASE WHEN j.reason = 'invalid' THEN '{"erased":true}' ELSE j.details END
    FROM unnest(lanes, results, sequences, instants)
        AS d (lane, result_sequence, journal_sequence, recorded_at)
    WHERE j.lane = d.lane AND j.result_sequence = d.result_sequence
        AND j.journal_sequence = d.journal_sequence AND j.recorded_at = d.recorded_at
        AND (num_nonnulls(j.actor, j.change, j.forward) > 0
            OR j.reason = 'invalid' AND j.details -> 'erased' IS NULL);
    GET DIAGNOSTICS blanked = ROW_COUNT;
END
$$;

-- The next results of an organization's dry runs behind a place, up to an instant: what they tell
-- of one candidate.
-- Such rows name no candidate and have no salt: their digest is kept as the chain has it.
CREATE FUNCTION blank_dry_runs(
    of_organization uuid, of_candidate uuid, until timestamptz, after_at timestamptz,
    after_lane integer, after_sequence bigint, rows_max integer, bytes_max bigint,
    OUT last_at timestamptz, OUT last_lane integer, OUT last_sequence bigint,
    OUT looked integer, OUT bytes bigint, OUT blanked bigint, OUT waits boolean, OUT more boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named jsonb := jsonb_build_array(jsonb_build_object('candidate_id', of_candidate::text));
    each record;
BEGIN
    looked := 0;
    bytes := 0;
    blanked := 0;
    waits := false;
    more := false;
    FOR each IN
        SELECT j.lane, j.result_sequence, j.journal_sequence, j.recorded_at,
               coalesce(4 * pg_column_size(j.details), 0) AS size,
               j.result_sequence <= (
                   SELECT l.published_result_sequence FROM public.lanes AS l
                   WHERE l.lane = j.lane) AS published
        FROM public.journal AS j
        WHERE j.organization_id = of_organization AND j.kind = 'command'
            AND j.operation_id IS NOT NULL AND j.outcome = 'unchanged'
            AND j.recorded_at >= after_at AND j.recorded_at <= until
            AND (j.recorded_at, j.lane, j.journal_sequence)
                > (after_at, after_lane, after_sequence)
        ORDER BY j.recorded_at, j.lane, j.journal_sequence
        LIMIT rows_max
    LOOP
        waits := NOT each.published;
        more := NOT waits AND bytes >= bytes_max;
        EXIT WHEN waits OR more;
        looked := looked + 1;
        bytes := bytes + each.size;
        last_at := each.recorded_at;
        last_lane := each.lane;
        last_sequence := each.journal_sequence;
        CONTINUE WHEN NOT EXISTS (
            SELECT FROM public.journal AS j
            WHERE j.lane = each.lane AND j.result_sequence = each.result_sequence
                AND j.journal_sequence = each.journal_sequence AND j.recorded_at = each.recorded_at
                AND strpos(j.details::text, of_candidate::text) > 0
                AND j.details::jsonb -> 'differences' @> named);
        INSERT INTO public.journal_erased_rows
            (lane, result_sequence, journal_sequence, personal_digest)
        SELECT j.lane, j.result_sequence, j.journal_sequence,
               public.journal_personal_digest(NULL, j)
        FROM public.journal AS j
        WHERE j.lane = each.lane AND j.result_sequence = each.result_sequence
            AND j.journal_sequence = each.journal_sequence AND j.recorded_at = each.recorded_at
            AND j.result_sequence <= (
                SELECT s.last_result FROM public.journal_seals AS s
                WHERE s.lane = j.lane AND s.kind = 'rows' ORDER BY s.link DESC LIMIT 1)
        ON CONFLICT DO NOTHING;
        UPDATE public.journal AS j
        SET details = jsonb_build_object('erased', true) || jsonb_set(
            j.details::jsonb, '{differences}',
            public.without_candidate(j.details::jsonb -> 'differences', of_candidate))
        WHERE j.lane = each.lane AND j.result_sequence = each.result_sequence
            AND j.journal_sequence = each.journal_sequence AND j.recorded_at = each.recorded_at;
        blanked := blanked + 1;
    END LOOP;
    more := more OR looked = rows_max;
END
$$;

-- The next of an organization's bulk operations behind a place, which may be among the items of
-- one: what they tell of one candidate, that is what a dry run would have changed, the person's own
-- values in a filter, the changes of an operation on nobody else.
CREATE FUNCTION blank_operations(
    of_organization uuid, of_candidate uuid, after_operation uuid, after_ordinal bigint,
    rows_max integer, bytes_max bigint,
    OUT last_operation uuid, OUT last_ordinal bigint,
    OUT looked integer, OUT bytes bigint, OUT blanked bigint, OUT more boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    items_a_row constant integer := 20;  -- read through for what one row costs to change
    named jsonb := jsonb_build_array(jsonb_build_object('candidate_id', of_candidate::text));
    o record;
    page record;
    member boolean;
    differing boolean;
BEGIN
    last_operation := after_operation;
    last_ordinal := after_ordinal;
    looked := 0;
    bytes := 0;
    blanked := 0;
    LOOP
        more := looked >= rows_max OR bytes >= bytes_max;
        EXIT WHEN more;
        SELECT b.operation_id, b.total,
               b.filter IS NOT NULL AND b.filter::jsonb ?| '{q,attribute}'::text[] AS searching,
               b.total = 1 AS alone, coalesce(4 * pg_column_size(b.differences), 0) AS size
        INTO o
        FROM public.bulk_operations AS b
        WHERE b.organization_id = of_organization AND b.operation_id >= last_operation
            AND (last_ordinal >= 0 OR b.operation_id > last_operation)
        ORDER BY b.operation_id
        LIMIT 1;
        EXIT WHEN NOT FOUND;
        IF o.operation_id <> last_operation THEN
            last_operation := o.operation_id;
            last_ordinal := 0;
        END IF;
        looked := looked + 1;
        bytes := bytes + o.size;
        member := false;
        IF o.searching OR o.alone THEN
            IF last_ordinal = 0 THEN
                member := EXISTS (
                    SELECT FROM public.bulk_operation_chunks AS c
                    WHERE c.organization_id = of_organization
                        AND c.operation_id = o.operation_id
                        AND of_candidate = ANY (c.candidate_ids));
            END IF;
            IF NOT member THEN
                SELECT count(*) AS total, bool_or(i.candidate_id = of_candidate) AS found,
                       max(i.ordinal) AS ordinal
                INTO page
                FROM (
                    SELECT k.candidate_id, k.ordinal FROM public.bulk_operation_items AS k
                    WHERE k.organization_id = of_organization
                        AND k.operation_id = o.operation_id AND k.ordinal >= last_ordinal
                    ORDER BY k.ordinal
                    LIMIT items_a_row * (rows_max - looked + 1)) AS i;
                looked := looked + page.total::integer / items_a_row;
                member := coalesce(page.found, false);
                IF NOT member AND page.total > 0 AND looked > rows_max THEN
                    last_ordinal := page.ordinal + 1;
                    more := true;
                    EXIT;
                END IF;
            END IF;
        END IF;
        differing := EXISTS (
            SELECT FROM public.bulk_operations AS b
            WHERE b.organization_id = of_organization AND b.operation_id = o.operation_id
                AND b.differences::jsonb @> named);
        IF differing OR member THEN
            UPDATE public.bulk_operations AS b
            SET differences = CASE WHEN differing
                    THEN public.without_candidate(b.differences::jsonb, of_candidate)::json
                    ELSE b.differences END,
                filter = CASE WHEN member AND o.searching
                    THEN (b.filter::jsonb - '{q,attribute}'::text[])::json ELSE b.filter END,
                changes = CASE WHEN member AND o.alone THEN '{}'::json ELSE b.changes END
            WHERE b.organization_id = of_organization AND b.operation_id = o.operation_id
                AND (differing OR o.searching OR b.changes::text <> '{}');
            IF FOUND THEN
                blanked := blanked + 1;
            END IF;
        END IF;
        last_ordinal := -1;
    END LOOP;
END
$$;

-- The next dead letters of an organization behind a place: of those recorded since, the ones that name the candidate, in the id
-- that was read of them or anywhere in their bytes, are replaced by an empty record that says so in
-- a header (contract/dead_letters.py). Those that are not known to be of this organization are not
-- looked at: whoever holds the same id elsewhere may still need them. Nor are those that are not
-- published yet: they came afterwards.
CREATE FUNCTION blank_letters(
    of_organization uuid, of_candidate uuid, since timestamptz, after_lane integer,
    after_sequence bigint, rows_max integer, bytes_max bigint,
    OUT last_lane integer, OUT last_sequence bigint,
    OUT looked integer, OUT bytes bigint, OUT blanked bigint, OUT more boolean
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d record;
BEGIN
    last_lane := after_lane;
    last_sequence := after_sequence;
    looked := 0;
    bytes := 0;
    blanked := 0;
    more := false;
    FOR d IN
        SELECT c.lane, c.result_sequence, c.recorded_at, octet_length(c.record) AS size,
               c.result_sequence <= (
                   SELECT l.published_result_sequence FROM public.lanes AS l
                   WHERE l.lane = c.lane) AS published
        FROM public.dead_letters AS c
        WHERE public.dead_letter_owner(c.organization_id, c.record) = of_organization
            AND (c.lane, c.result_sequence) > (after_lane, after_sequence)
        ORDER BY c.lane, c.result_sequence
        LIMIT rows_max
    LOOP
        more := bytes >= bytes_max;
        EXIT WHEN more;
        looked := looked + 1;
        last_lane := d.lane;
        last_sequence := d.result_sequence;
        CONTINUE WHEN NOT d.published OR d.recorded_at < since;
        bytes := bytes + d.size;
        UPDATE public.dead_letters AS c
        SET record = substring(c.record FOR 8) || decode('00000001' || 'ffffffff' || 'ffffffff'
            || '00000008' || encode('x-erased', 'hex') || '00000004' || encode('true', 'hex'), 'hex')
        WHERE c.lane = d.lane AND c.result_sequence = d.result_sequence
            AND octet_length(c.record) > 40
            AND (EXISTS (
                    SELECT FROM public.journal AS j
                    WHERE j.lane = d.lane AND j.result_sequence = d.result_sequence
                        AND j.recorded_at = d.recorded_at
                        AND j.organization_id = of_organization
                        AND j.candidate_id = of_candidate)
                OR strpos(lower(encode(c.record, 'escape') COLLATE "C"), of_candidate::text) > 0);
        IF FOUND THEN
            blanked := blanked + 1;
        END IF;
    END LOOP;
    more := more OR looked = rows_max;
END
$$;

-- A bounded step of one of a lane's erasures; no row if none is open. Organizations take turns, the
-- first one behind `after_organization`. It goes on with the next phase while rows and bytes are
-- left, and leaves in `erasures` where it stands. `busy`: a sealer or a checkpoint is at a lane;
-- `idle`: it has to wait until what it must make unreadable is published; `completed`: that was all.
CREATE FUNCTION erase_step(
    of_lane integer, at_instant timestamptz, rows_max integer,
    bytes_max bigint DEFAULT 8388608,
    after_organization uuid DEFAULT '00000000-0000-0000-0000-000000000000'
) RETURNS TABLE (
    organization_id uuid, candidate_id uuid, command_id text, command_source text,
    command_type text, actor text, traceparent text, tracestate text, accepted_at timestamptz,
    journal_rows bigint, operations bigint, dead_letters bigint, idle boolean, completed boolean,
    busy boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- Plans do not depend on statistics: pages are read in the order of an index.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    idle_max constant integer := 20;  -- that wait are passed over until one is found that does not
    -- Longer than a transaction takes: what was not committed when a pass began may have been
    -- recorded so long before.
    margin constant interval := '10 minutes';
    e public.erasures;
    page record;
    turn integer := 0;
    after_turn uuid := after_organization;
    rows_left integer := rows_max;
    bytes_left bigint := bytes_max;
    bounds bigint[];
    later boolean;
BEGIN
    completed := false;
    LOOP
        turn := turn + 1;
        SELECT * INTO e FROM public.erasures AS o
        WHERE o.lane = of_lane AND o.organization_id > after_turn
            AND (o.completed_at IS NULL OR o.phase IS NOT NULL OR o.again > 0)
        ORDER BY o.organization_id, o.looked_at
        LIMIT 1;
        IF NOT FOUND THEN
            SELECT * INTO e FROM public.erasures AS o
            WHERE o.lane = of_lane
                AND (o.completed_at IS NULL OR o.phase IS NOT NULL OR o.again > 0)
            ORDER BY o.organization_id, o.looked_at
            LIMIT 1;
        END IF;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        after_turn := e.organization_id;
        -- Sealers and checkpoints hold it exclusively for a lane. Who waits for them keeps a lane.
        SELECT NOT bool_and(
            pg_try_advisory_xact_lock_shared(hashtext('gulf-funnel.journal-seals'), l.lane))
        INTO busy FROM public.lanes AS l;
        idle := false;
        IF e.phase IS NULL AND NOT busy THEN
            e.place_at := coalesce(e.pass_at, e.accepted_at) - margin;
            e.place_lane := -1;
            e.place_sequence := -1;
            e.pass_at := clock_timestamp();
            IF e.completed_at IS NULL THEN
                e.phase := 'versions';
            ELSIF e.again > 1 THEN
                e.phase := 'letters';
                e.letters_lane := -1;
                e.letters_sequence := 0;
                SELECT array_agg(l.result_sequence ORDER BY l.lane) INTO e.result_sequences
                FROM public.lanes AS l;
            ELSE
                e.phase := 'rest';
            END IF;
            e.again := 0;
        END IF;
        bounds := e.result_sequences;
        bounds[e.lane + 1] := greatest(e.result_sequence, bounds[e.lane + 1]);
        WHILE NOT (busy OR idle) AND rows_left > 0 AND bytes_left > 0 AND e.phase IS NOT NULL LOOP
            CASE e.phase
            WHEN 'versions', 'others', 'rest' THEN
                PERFORM public.blank_checkpoint(e.organization_id, e.candidate_id);
                SELECT * INTO page FROM public.blank_journal(
                    e.organization_id, e.candidate_id, e.phase = 'versions', e.place_at,
                    e.place_lane, e.place_sequence, bounds, rows_left, bytes_left);
                idle := page.waits;
                later := page.later;
                e.journal_rows := e.journal_rows + page.blanked;
                IF page.looked > 0 THEN
                    e.place_at := page.last_at;
                    e.place_lane := page.last_lane;
                    e.place_sequence := page.last_sequence;
                END IF;
            WHEN 'dry_runs' THEN
                SELECT * INTO page FROM public.blank_dry_runs(
                    e.organization_id, e.candidate_id, e.accepted_at, e.place_at, e.place_lane,
                    e.place_sequence, rows_left, bytes_left);
                idle := page.waits;
                e.journal_rows := e.journal_rows + page.blanked;
                IF page.looked > 0 THEN
                    e.place_at := page.last_at;
                    e.place_lane := page.last_lane;
                    e.place_sequence := page.last_sequence;
                END IF;
            WHEN 'operations' THEN
                SELECT * INTO page FROM public.blank_operations(
                    e.organization_id, e.candidate_id,
                    coalesce(e.place_operation, '00000000-0000-0000-0000-000000000000'),
                    e.place_sequence, rows_left, bytes_left);
                e.operations := e.operations + page.blanked;
                e.place_operation := page.last_operation;
                e.place_sequence := page.last_ordinal;
            WHEN 'letters' THEN
                -- All that may name the candidate has to be published first, in every lane.
                idle := EXISTS (
                    SELECT FROM public.lanes AS l
                    WHERE l.published_result_sequence < coalesce(bounds[l.lane + 1], 0));
                EXIT WHEN idle;
                SELECT * INTO page FROM public.blank_letters(
                    e.organization_id, e.candidate_id,
                    coalesce(e.letters_at - margin, '-infinity'), e.letters_lane,
                    e.letters_sequence, rows_left, bytes_left);
                e.dead_letters := e.dead_letters + page.blanked;
                e.letters_lane := page.last_lane;
                e.letters_sequence := page.last_sequence;
            END CASE;
            rows_left := rows_left - page.looked;
            bytes_left := bytes_left - page.bytes;
            CONTINUE WHEN idle OR page.more;
            CASE e.phase
            WHEN 'versions' THEN
                e.phase := 'others';
                e.place_at := '-infinity';
                e.place_lane := -1;
                e.place_sequence := -1;
            WHEN 'others' THEN
                e.phase := 'operations';
                e.place_operation := NULL;
                e.place_sequence := -1;
            WHEN 'operations' THEN
                e.phase := 'dry_runs';
                e.place_at := '-infinity';
                e.place_lane := -1;
                e.place_sequence := -1;
            WHEN 'dry_runs' THEN
                e.phase := 'letters';
                e.place_at := e.pass_at - margin;
                e.place_lane := -1;
                e.place_sequence := -1;
            WHEN 'letters' THEN
                e.letters_at := e.pass_at;
                e.phase := 'rest';
            WHEN 'rest' THEN
                IF later THEN  -- named since, by what is to be published: once more, then
                    idle := true;
                    e.again := greatest(e.again, 1);
                ELSE
                    PERFORM public.forget_salt(e.organization_id, e.candidate_id);
                END IF;
                e.phase := NULL;
                completed := e.completed_at IS NULL;
                e.completed_at := coalesce(e.completed_at, at_instant);
            END CASE;
        END LOOP;
        UPDATE public.erasures AS o
        SET looked_at = clock_timestamp(), letters_lane = e.letters_lane,
            letters_sequence = e.letters_sequence, journal_rows = e.journal_rows,
            operations = e.operations, dead_letters = e.dead_letters,
            completed_at = e.completed_at, phase = e.phase, place_at = e.place_at,
            place_lane = e.place_lane, place_sequence = e.place_sequence,
            place_operation = e.place_operation, pass_at = e.pass_at, letters_at = e.letters_at,
            again = e.again, result_sequences = e.result_sequences
        WHERE o.organization_id = e.organization_id AND o.candidate_id = e.candidate_id;
        EXIT WHEN busy OR NOT idle OR rows_left < rows_max OR turn = idle_max;
    END LOOP;
    RETURN QUERY
        SELECT e.organization_id, e.candidate_id, e.command_id, e.command_source, j.command_type,
               e.actor, j.traceparent, j.tracestate, e.accepted_at, e.journal_rows, e.operations,
               e.dead_letters, idle, completed, busy
        FROM (SELECT) AS one
        LEFT JOIN public.journal AS j
            ON j.lane = e.lane AND j.result_sequence = e.result_sequence
            AND j.recorded_at = e.accepted_at;
END
$$;

--------------------------------------------------------------------------------------------------
-- Who may do what. No role but funnel_eraser may change a journal row, none may remove one.

GRANT USAGE ON SCHEMA public TO funnel_consumer, funnel_api, funnel_audit;
GRANT SELECT ON schema_migrations TO PUBLIC;

GRANT SELECT ON journal TO funnel_consumer;
GRANT SELECT, INSERT ON dead_letters TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE ON lanes, candidates TO funnel_consumer;
GRANT SELECT, INSERT, UPDATE, DELETE ON consumers TO funnel_consumer;
REVOKE ALL ON FUNCTION ensure_journal_partitions(timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_journal_partitions(timestamptz) TO funnel_consumer;

GRANT SELECT, INSERT, UPDATE, DELETE
    ON bulk_operations, bulk_operation_chunks, bulk_operation_items TO funnel_consumer;
GRANT SELECT ON bulk_operations, bulk_operation_chunks, bulk_operation_items
    TO funnel_api, funnel_audit;

GRANT SELECT ON candidates, journal, lanes TO funnel_api;
REVOKE ALL ON FUNCTION read_candidates(uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_candidates(uuid[], uuid[]) TO funnel_api;
REVOKE ALL ON FUNCTION read_commands(uuid[], text[], uuid[], uuid[], integer[], bigint[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_commands(uuid[], text[], uuid[], uuid[], integer[], bigint[])
    TO funnel_api;
GRANT SELECT, INSERT, UPDATE ON candidate_names TO funnel_consumer;
GRANT SELECT ON candidate_names TO funnel_api, funnel_audit;
REVOKE ALL ON FUNCTION
    list_candidates(uuid, jsonb, text, timestamptz, text, uuid, integer, integer, integer),
    read_past(uuid, uuid, bigint, timestamptz), read_history(uuid, uuid, bigint, integer),
    read_changes(uuid[], bigint[], timestamptz[], integer), read_latest_changes(uuid[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    list_candidates(uuid, jsonb, text, timestamptz, text, uuid, integer, integer, integer),
    read_past(uuid, uuid, bigint, timestamptz), read_history(uuid, uuid, bigint, integer),
    read_changes(uuid[], bigint[], timestamptz[], integer), read_latest_changes(uuid[])
    TO funnel_api;
REVOKE ALL ON FUNCTION expire_dead_letters(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION expire_dead_letters(timestamptz, integer) TO funnel_consumer;
GRANT SELECT ON candidates, journal, lanes, dead_letters, consumers, redrives TO funnel_audit;

REVOKE ALL ON FUNCTION journal_row_at(integer, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_row_at(integer, bigint) TO funnel_operator, funnel_audit;
CREATE SCHEMA shadow;  -- where an auditor rebuilds the state beside the real one
GRANT USAGE, CREATE ON SCHEMA shadow TO funnel_audit;
GRANT USAGE ON SCHEMA public TO funnel_operator, funnel_repair, funnel_sealer, funnel_retention;
GRANT SELECT ON journal, lanes, consumers, dead_letters, redrives TO funnel_operator;
GRANT INSERT ON redrives TO funnel_operator;
GRANT UPDATE (sent_lane, sent_offset, outcome, reason, ended_lane, ended_sequence, ended_at)
    ON redrives TO funnel_operator;

REVOKE ALL ON FUNCTION forget_salt(uuid, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION journal_partitions() FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_journal_partition(text, interval, boolean) FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON candidates TO funnel_repair;
GRANT SELECT, INSERT, UPDATE, DELETE ON candidate_names TO funnel_repair;
GRANT SELECT, INSERT ON journal TO funnel_repair;
GRANT SELECT, UPDATE ON lanes TO funnel_repair;
GRANT SELECT ON journal, lanes, journal_erased_rows TO funnel_sealer, funnel_retention;
GRANT SELECT, INSERT ON journal_seals, journal_salts TO funnel_sealer;
GRANT SELECT, INSERT ON journal_seals, journal_archives TO funnel_retention;
GRANT SELECT ON journal_salts TO funnel_retention;
GRANT SELECT, INSERT, UPDATE ON checkpoints, checkpoint_candidates TO funnel_retention;
GRANT EXECUTE ON FUNCTION journal_partitions() TO funnel_retention, funnel_audit;
GRANT EXECUTE ON FUNCTION drop_journal_partition(text, interval, boolean) TO funnel_retention;
GRANT SELECT ON journal_seals, journal_salts, journal_erased_rows, journal_archives, checkpoints,
    checkpoint_candidates TO funnel_audit;
GRANT SELECT ON checkpoint_candidates TO funnel_repair;

-- The second wall between organizations: the API sees the one that its transaction names.
ALTER TABLE candidates ENABLE ROW LEVEL SECURITY;
ALTER TABLE journal ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON candidates TO funnel_consumer, funnel_audit USING (true) WITH CHECK (true);
CREATE POLICY everything ON journal TO funnel_consumer, funnel_audit USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON candidates FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON journal FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY everything_to_repairs ON candidates TO funnel_repair
    USING (true) WITH CHECK (true);
CREATE POLICY everything_to_repairs ON candidate_names TO funnel_repair
    USING (true) WITH CHECK (true);
CREATE POLICY everything_to_repairs ON journal TO funnel_repair USING (true) WITH CHECK (true);
CREATE POLICY everything_to_operators ON journal FOR SELECT TO funnel_operator USING (true);
CREATE POLICY everything_to_keepers ON journal FOR SELECT TO funnel_sealer, funnel_retention
    USING (true);
ALTER TABLE bulk_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE bulk_operation_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE bulk_operation_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON bulk_operations TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY everything ON bulk_operation_chunks TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY everything ON bulk_operation_items TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON bulk_operations FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON bulk_operation_chunks FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON bulk_operation_items FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);

-- What the API reads of bulk operations, with the rights of its caller. The organization is named
-- in a statement of its own, as in 0002.

-- Many operations, of whatever organizations.
CREATE FUNCTION read_operations(organizations uuid[], operation_ids uuid[])
RETURNS SETOF bulk_operations
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
BEGIN
    FOR asked IN
        SELECT * FROM unnest(organizations, operation_ids) AS a (organization_id, operation_id)
    LOOP
        PERFORM set_config('funnel.organization_id', asked.organization_id::text, true);
        RETURN QUERY
            SELECT * FROM bulk_operations AS o
            WHERE o.organization_id = asked.organization_id
                AND o.operation_id = asked.operation_id;
    END LOOP;
END
$$;

-- A page of an organization's operations, newest first, after a place in that order.
CREATE FUNCTION list_operations(
    organization uuid, only_status text, before_time timestamptz, before_id uuid,
    page_rows integer
) RETURNS SETOF bulk_operations
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    RETURN QUERY
        SELECT * FROM bulk_operations AS o
        WHERE o.organization_id = organization
            AND (o.created_at, o.operation_id) < (
                coalesce(before_time, 'infinity'),
                coalesce(before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND (only_status IS NULL OR o.status = only_status)
        ORDER BY o.created_at DESC, o.operation_id DESC
        LIMIT page_rows;
END
$$;

-- Items of one operation after an ordinal: those that were decided, and those that are pending,
-- at most a page of either. STABLE: one snapshot for both, so an item is in one of them.
CREATE FUNCTION list_operation_items(
    organization uuid, operation uuid, only_outcome text, after_ordinal integer, page_rows integer
) RETURNS TABLE (ordinal integer, candidate_id uuid, outcome text, version bigint, details json)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('funnel.organization_id', organization::text, true);
    IF only_outcome IS DISTINCT FROM 'pending' THEN
        RETURN QUERY
            SELECT i.ordinal, i.candidate_id, i.outcome, i.version, i.details
            FROM bulk_operation_items AS i
            WHERE i.organization_id = organization AND i.operation_id = operation
                AND i.ordinal > after_ordinal
                AND (only_outcome IS NULL OR i.outcome = only_outcome)
            ORDER BY i.ordinal
            LIMIT page_rows;
    END IF;
    IF coalesce(only_outcome, 'pending') = 'pending' THEN
        RETURN QUERY
            SELECT (c.first_ordinal + w.n - 1)::integer, w.id, 'pending', NULL::bigint, NULL::json
            FROM (
                SELECT k.first_ordinal, k.candidate_ids
                FROM bulk_operation_chunks AS k
                WHERE k.organization_id = organization AND k.operation_id = operation
                    AND k.first_ordinal + cardinality(k.candidate_ids) > after_ordinal + 1
                ORDER BY k.first_ordinal
                LIMIT page_rows
            ) AS c, unnest(c.candidate_ids) WITH ORDINALITY AS w (id, n)
            WHERE c.first_ordinal + w.n - 1 > after_ordinal
            ORDER BY 1
            LIMIT page_rows;
    END IF;
END
$$;

REVOKE ALL ON FUNCTION read_operations(uuid[], uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION list_operations(uuid, text, timestamptz, uuid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION list_operation_items(uuid, uuid, text, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_operations(uuid[], uuid[]) TO funnel_api;
GRANT EXECUTE ON FUNCTION list_operations(uuid, text, timestamptz, uuid, integer) TO funnel_api;
GRANT EXECUTE ON FUNCTION list_operation_items(uuid, uuid, text, integer, integer) TO funnel_api;
ALTER TABLE candidate_names ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON candidate_names TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON candidate_names FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);

-- The one role that may change journal rows, and of those only what may be personal. Nobody is it.
GRANT USAGE ON SCHEMA public TO funnel_eraser;
GRANT SELECT ON journal, lanes, dead_letters, erasures,
    bulk_operations, bulk_operation_chunks, bulk_operation_items TO funnel_eraser;
GRANT UPDATE (actor, change, details, forward) ON journal TO funnel_eraser;
GRANT SELECT ON journal_seals TO funnel_eraser;
GRANT SELECT, INSERT ON journal_erased_rows TO funnel_eraser;
GRANT UPDATE (changes, filter, differences) ON bulk_operations TO funnel_eraser;
GRANT UPDATE (again) ON erasures TO funnel_consumer;
GRANT UPDATE (looked_at, letters_lane, letters_sequence, journal_rows, operations, dead_letters,
              completed_at, phase, place_at, place_lane, place_sequence, place_operation, pass_at,
              letters_at, again, result_sequences) ON erasures TO funnel_eraser;
GRANT UPDATE (record) ON dead_letters TO funnel_eraser;
GRANT EXECUTE ON FUNCTION forget_salt(uuid, uuid), journal_personal_digest(uuid, journal)
    TO funnel_eraser;
CREATE POLICY everything_to_eraser ON journal TO funnel_eraser USING (true) WITH CHECK (true);
CREATE POLICY everything_to_eraser ON bulk_operations TO funnel_eraser
    USING (true) WITH CHECK (true);
CREATE POLICY everything_to_eraser ON bulk_operation_chunks FOR SELECT TO funnel_eraser
    USING (true);
CREATE POLICY everything_to_eraser ON bulk_operation_items FOR SELECT TO funnel_eraser
    USING (true);
GRANT SELECT, INSERT ON erasures TO funnel_consumer;
GRANT SELECT ON journal_salts, checkpoint_candidates TO funnel_eraser;
GRANT UPDATE (state, personal_digest) ON checkpoint_candidates TO funnel_eraser;
GRANT SELECT ON checkpoint_candidates TO funnel_consumer;
GRANT DELETE ON candidates TO funnel_consumer;
GRANT SELECT ON erasures TO funnel_audit, funnel_operator, funnel_sealer, funnel_retention;
REVOKE ALL ON FUNCTION without_candidate(jsonb, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION
    blank_checkpoint(uuid, uuid),
    blank_journal(uuid, uuid, boolean, timestamptz, integer, bigint, bigint[], integer, bigint),
    blank_dry_runs(uuid, uuid, timestamptz, timestamptz, integer, bigint, integer, bigint),
    blank_operations(uuid, uuid, uuid, bigint, integer, bigint),
    blank_letters(uuid, uuid, timestamptz, integer, bigint, integer, bigint),
    erase_step(integer, timestamptz, integer, bigint, uuid)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_step(integer, timestamptz, integer, bigint, uuid)
    TO funnel_consumer;
-- They run with its rights.
GRANT CREATE ON SCHEMA public TO funnel_eraser;
ALTER FUNCTION without_candidate(jsonb, uuid) OWNER TO funnel_eraser;
ALTER FUNCTION blank_checkpoint(uuid, uuid) OWNER TO funnel_eraser;
ALTER FUNCTION
    blank_journal(uuid, uuid, boolean, timestamptz, integer, bigint, bigint[], integer, bigint)
    OWNER TO funnel_eraser;
ALTER FUNCTION
    blank_dry_runs(uuid, uuid, timestamptz, timestamptz, integer, bigint, integer, bigint)
    OWNER TO funnel_eraser;
ALTER FUNCTION blank_operations(uuid, uuid, uuid, bigint, integer, bigint)
    OWNER TO funnel_eraser;
ALTER FUNCTION blank_letters(uuid, uuid, timestamptz, integer, bigint, integer, bigint)
    OWNER TO funnel_eraser;
ALTER FUNCTION erase_step(integer, timestamptz, integer, bigint, uuid) OWNER TO funnel_eraser;
REVOKE CREATE ON SCHEMA public FROM funnel_eraser;
-- End of erasure.
