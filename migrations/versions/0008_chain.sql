-- migrate:up

-- The role that seals: it reads the journal and adds links and salts; it changes nothing.
-- The role of retention: it writes checkpoints and may ask for the oldest partition to be dropped.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['funnel_sealer', 'funnel_retention'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster was migrated at the same moment
            END;
        END IF;
    END LOOP;
END
$$;

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

-- Finds a candidate's rows that changed nothing, for its erasure. They are few.
-- A partitioned table takes no CONCURRENTLY.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_candidate_others ON journal (organization_id, candidate_id)
    WHERE change_sequence IS NULL AND candidate_id IS NOT NULL;

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

-- Called by an erasure in the transaction that blanks a candidate's rows, before it does so: keeps
-- the salted digests of all that is sealed, blanks the checkpoint, and forgets the salt. The chain
-- still verifies afterwards. What is sealed later gets a new salt, so it may be called again. Tells
-- how many digests it kept.
CREATE FUNCTION forget_salt(of_organization uuid, of_candidate uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    old_salt uuid;
    kept bigint;
BEGIN
    -- Sealers and checkpoints hold it shared.
    PERFORM pg_advisory_xact_lock(hashtext('gulf-funnel.journal-salts'));
    SELECT s.salt INTO old_salt FROM public.journal_salts AS s
    WHERE s.organization_id = of_organization AND s.candidate_id = of_candidate;
    IF old_salt IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO public.journal_erased_rows
        (lane, result_sequence, journal_sequence, personal_digest)
    SELECT (n.j).lane, (n.j).result_sequence, (n.j).journal_sequence,
           public.journal_personal_digest(old_salt, n.j)
    FROM (
        SELECT c AS j FROM public.journal AS c
        WHERE c.organization_id = of_organization AND c.candidate_id = of_candidate
            AND c.change_sequence IS NOT NULL
        UNION ALL
        SELECT o AS j FROM public.journal AS o
        WHERE o.organization_id = of_organization AND o.candidate_id = of_candidate
            AND o.change_sequence IS NULL) AS n
    WHERE (n.j).result_sequence <= (
        SELECT s.last_result FROM public.journal_seals AS s
        WHERE s.lane = (n.j).lane AND s.kind = 'rows' ORDER BY s.link DESC LIMIT 1)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS kept = ROW_COUNT;
    UPDATE public.checkpoint_candidates AS c
    SET state = NULL, personal_digest = sha256(uuid_send(old_salt) || record_send(ROW(c.state)))
    WHERE c.organization_id = of_organization AND c.candidate_id = of_candidate
        AND c.personal_digest IS NULL;
    DELETE FROM public.journal_salts AS s
    WHERE s.organization_id = of_organization AND s.candidate_id = of_candidate;
    RETURN kept;
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
    EXECUTE format('DROP TABLE public.%I', of_partition);
    UPDATE public.checkpoints AS c SET dropped_at = clock_timestamp()
    WHERE c.cut_at = p.ends_at AND c.dropped_at IS NULL;
END
$$;

REVOKE ALL ON FUNCTION forget_salt(uuid, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION journal_partitions() FROM PUBLIC;
REVOKE ALL ON FUNCTION drop_journal_partition(text, interval, boolean) FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO funnel_sealer, funnel_retention;
GRANT SELECT ON journal, lanes, journal_erased_rows TO funnel_sealer, funnel_retention;
GRANT SELECT, INSERT ON journal_seals, journal_salts TO funnel_sealer;
GRANT SELECT, INSERT ON journal_seals, journal_archives TO funnel_retention;
GRANT SELECT ON journal_salts TO funnel_retention;
GRANT SELECT, INSERT, UPDATE ON checkpoints, checkpoint_candidates TO funnel_retention;
GRANT EXECUTE ON FUNCTION journal_partitions() TO funnel_retention, funnel_audit;
GRANT EXECUTE ON FUNCTION drop_journal_partition(text, interval, boolean) TO funnel_retention;
GRANT SELECT ON journal_seals, journal_salts, journal_erased_rows, journal_archives, checkpoints,
    checkpoint_candidates TO funnel_audit;
-- A state is rebuilt from the journal and the checkpoint.
GRANT SELECT ON checkpoint_candidates TO funnel_repair;
CREATE POLICY everything_to_keepers ON journal FOR SELECT TO funnel_sealer, funnel_retention
    USING (true);

-- migrate:down

DROP POLICY everything_to_keepers ON journal;
DROP FUNCTION drop_journal_partition(text, interval, boolean);
DROP FUNCTION journal_partitions();
DROP FUNCTION forget_salt(uuid, uuid);
DROP FUNCTION journal_personal_digest(uuid, journal);
DROP INDEX journal_candidate_others;
DROP TABLE journal_archives, checkpoint_candidates, checkpoints, journal_erased_rows,
    journal_salts, journal_seals;
