-- migrate:up

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
    PRIMARY KEY (organization_id, candidate_id)
);
CREATE INDEX erasures_open ON erasures (lane, looked_at) WHERE completed_at IS NULL;

-- `erased`: the deferred part of an erasure is done. The new rule allows more than the old one, so
-- every row there is fits it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE journal DROP CONSTRAINT journal_kind_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE journal ADD CONSTRAINT journal_kind_check CHECK (
    kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed', 'erased',
             'repair'));

-- The results of dry runs, which tell of candidates that their row does not name. A partitioned
-- table takes no CONCURRENTLY; such rows are few, but the journal is read through.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_dry_runs ON journal (organization_id)
    WHERE kind = 'command' AND operation_id IS NOT NULL AND outcome = 'unchanged';

-- The one role that may change journal rows, and of those only what may be personal. Nobody is it:
-- it owns `erase_step`, which touches nothing but what a row of `erasures` names.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnel_eraser') THEN
        BEGIN
            CREATE ROLE funnel_eraser NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster was migrated at the same moment
        END;
    END IF;
END
$$;
GRANT USAGE ON SCHEMA public TO funnel_eraser;
GRANT SELECT ON journal, lanes, dead_letters, erasures,
    bulk_operations, bulk_operation_chunks, bulk_operation_items TO funnel_eraser;
GRANT UPDATE (actor, change, details, forward) ON journal TO funnel_eraser;
GRANT SELECT ON journal_seals TO funnel_eraser;
GRANT SELECT, INSERT ON journal_erased_rows TO funnel_eraser;
GRANT UPDATE (changes, filter, differences) ON bulk_operations TO funnel_eraser;
GRANT UPDATE (looked_at, letters_lane, letters_sequence, journal_rows, operations, dead_letters,
              completed_at) ON erasures TO funnel_eraser;
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

-- A JSON list less its entries about one candidate.
CREATE FUNCTION without_candidate(entries jsonb, of_candidate uuid) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(entry ORDER BY ordinal), '[]')
    FROM jsonb_array_elements(entries) WITH ORDINALITY AS e (entry, ordinal)
    WHERE entry ->> 'candidate_id' IS DISTINCT FROM of_candidate::text
$$;

-- Up to `rows_max` published journal rows of one candidate: their personal columns are emptied.
-- What identifies a command and how it was settled stays, so that one sent again is answered.
CREATE FUNCTION blank_journal(of_organization uuid, of_candidate uuid, rows_max integer)
RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    due public.journal[];
    blanked bigint;
BEGIN
    due := ARRAY(
        SELECT j FROM public.journal AS j JOIN public.lanes AS l ON l.lane = j.lane
        WHERE j.organization_id = of_organization AND j.candidate_id = of_candidate
            AND j.change_sequence IS NOT NULL
            AND num_nonnulls(j.actor, j.change) > 0
            AND j.result_sequence <= l.published_result_sequence
        LIMIT rows_max)
    || ARRAY(
        SELECT j FROM public.journal AS j JOIN public.lanes AS l ON l.lane = j.lane
        WHERE j.organization_id = of_organization AND j.candidate_id = of_candidate
            AND j.change_sequence IS NULL
            AND (num_nonnulls(j.actor, j.forward) > 0
                OR j.reason = 'invalid' AND j.details -> 'erased' IS NULL)
            AND j.result_sequence <= l.published_result_sequence
        LIMIT rows_max);
    IF cardinality(due) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM public.forget_salt(of_organization, of_candidate);
    UPDATE public.journal AS j
    SET actor = NULL, change = NULL, forward = NULL,
        details = CASE WHEN j.reason = 'invalid' THEN '{"erased":true}' ELSE j.details END
    FROM unnest(due) AS d
    WHERE j.lane = d.lane AND j.result_sequence = d.result_sequence
        AND j.journal_sequence = d.journal_sequence AND j.recorded_at = d.recorded_at;
    GET DIAGNOSTICS blanked = ROW_COUNT;
    RETURN blanked;
END
$$;

-- What bulk operations tell of one candidate: what a dry run would have changed, the person's own
-- values in a filter, the changes of an operation on nobody else.
CREATE FUNCTION blank_operations(of_organization uuid, of_candidate uuid) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    named jsonb := jsonb_build_array(jsonb_build_object('candidate_id', of_candidate::text));
    blanked bigint;
BEGIN
    -- Rows that name no candidate have no salt: their digest is kept as the chain has it.
    INSERT INTO public.journal_erased_rows
        (lane, result_sequence, journal_sequence, personal_digest)
    SELECT j.lane, j.result_sequence, j.journal_sequence,
           public.journal_personal_digest(NULL, j)
    FROM public.journal AS j
    WHERE j.organization_id = of_organization AND j.kind = 'command'
        AND j.operation_id IS NOT NULL AND j.outcome = 'unchanged'
        AND j.details::jsonb -> 'differences' @> named
        AND j.result_sequence <= (
            SELECT s.last_result FROM public.journal_seals AS s
            WHERE s.lane = j.lane AND s.kind = 'rows' ORDER BY s.link DESC LIMIT 1)
    ON CONFLICT DO NOTHING;
    UPDATE public.journal AS j
    SET details = jsonb_build_object('erased', true) || jsonb_set(
        j.details::jsonb, '{differences}',
        public.without_candidate(j.details::jsonb -> 'differences', of_candidate))
    WHERE j.organization_id = of_organization AND j.kind = 'command'
        AND j.operation_id IS NOT NULL AND j.outcome = 'unchanged'
        AND j.details::jsonb -> 'differences' @> named;

    WITH touched AS (
        SELECT o.operation_id,
               o.differences::jsonb @> named AS differing,
               o.filter::jsonb ?| '{q,attribute}'::text[] AS searching,
               o.total = 1 AND o.completed_at IS NOT NULL AND o.changes::text <> '{}' AS alone
        FROM public.bulk_operations AS o
        WHERE o.organization_id = of_organization
            AND (o.filter IS NOT NULL OR o.differences IS NOT NULL OR o.total = 1)
    )
    UPDATE public.bulk_operations AS o
    SET differences = CASE WHEN t.differing THEN
            public.without_candidate(o.differences::jsonb, of_candidate)::json
            ELSE o.differences END,
        filter = CASE WHEN t.searching THEN (o.filter::jsonb - '{q,attribute}'::text[])::json
            ELSE o.filter END,
        changes = CASE WHEN t.alone THEN '{}'::json ELSE o.changes END
    FROM touched AS t
    WHERE o.organization_id = of_organization AND o.operation_id = t.operation_id
        AND (t.differing OR ((t.searching OR t.alone) AND (
            EXISTS (
                SELECT FROM public.bulk_operation_items AS i
                WHERE i.organization_id = of_organization AND i.operation_id = o.operation_id
                    AND i.candidate_id = of_candidate)
            OR EXISTS (
                SELECT FROM public.bulk_operation_chunks AS c
                WHERE c.organization_id = of_organization AND c.operation_id = o.operation_id
                    AND of_candidate = ANY (c.candidate_ids)))));
    GET DIAGNOSTICS blanked = ROW_COUNT;
    RETURN blanked;
END
$$;

-- Of the next `rows_max` dead letters behind a place those that name the candidate, in the id that
-- was read of them or anywhere in their bytes: the record is replaced by an empty one that says so
-- in a header (contract/dead_letters.py). Tells the last place looked at.
CREATE FUNCTION blank_letters(
    of_organization uuid, of_candidate uuid, after_lane integer, after_sequence bigint,
    rows_max integer, OUT last_lane integer, OUT last_sequence bigint, OUT blanked bigint
)
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    WITH page AS (
        SELECT d.lane, d.result_sequence, d.recorded_at, d.organization_id
        FROM public.dead_letters AS d
        JOIN public.lanes AS l
            ON l.lane = d.lane AND d.result_sequence <= l.published_result_sequence
        WHERE (d.lane, d.result_sequence) > (after_lane, after_sequence)
        ORDER BY d.lane, d.result_sequence
        LIMIT rows_max
    ), blanked AS (
        UPDATE public.dead_letters AS d
        SET record = substring(d.record FOR 8) || decode('00000001' || 'ffffffff' || 'ffffffff'
            || '00000008' || encode('x-erased', 'hex') || '00000004' || encode('true', 'hex'), 'hex')
        FROM page AS p
        WHERE d.lane = p.lane AND d.result_sequence = p.result_sequence
            AND coalesce(p.organization_id = of_organization, true)
            AND (EXISTS (
                    SELECT FROM public.journal AS j
                    WHERE j.lane = p.lane AND j.result_sequence = p.result_sequence
                        AND j.recorded_at = p.recorded_at AND j.candidate_id = of_candidate)
                OR strpos(lower(encode(d.record, 'escape')), of_candidate::text) > 0)
        RETURNING 1)
    SELECT (SELECT p.lane FROM page AS p ORDER BY p.lane DESC, p.result_sequence DESC LIMIT 1),
           (SELECT p.result_sequence FROM page AS p
            ORDER BY p.lane DESC, p.result_sequence DESC LIMIT 1),
           (SELECT count(*) FROM blanked)
$$;

-- A bounded step of the erasure of a lane that was looked at longest ago; no row if none is open.
-- `idle`: it has to wait until what it must make unreadable is published. `completed`: that was all.
CREATE FUNCTION erase_step(of_lane integer, at_instant timestamptz, rows_max integer)
RETURNS TABLE (
    organization_id uuid, candidate_id uuid, command_id text, command_source text,
    command_type text, actor text, traceparent text, tracestate text, accepted_at timestamptz,
    journal_rows bigint, operations bigint, dead_letters bigint, idle boolean, completed boolean
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    e public.erasures;
    step bigint;
    page record;
BEGIN
    SELECT * INTO e FROM public.erasures AS o
    WHERE o.lane = of_lane AND o.completed_at IS NULL
    ORDER BY o.looked_at
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    idle := false;
    step := public.blank_journal(e.organization_id, e.candidate_id, rows_max);
    e.journal_rows := e.journal_rows + step;
    IF step = 0 THEN
        -- All that may name the candidate has to be published first, in every lane.
        idle := EXISTS (
            SELECT FROM public.lanes AS l
            WHERE l.published_result_sequence < CASE l.lane WHEN e.lane THEN e.result_sequence
                ELSE coalesce(e.result_sequences[l.lane + 1], 0) END);
        IF NOT idle THEN
            SELECT * INTO page FROM public.blank_letters(
                e.organization_id, e.candidate_id, e.letters_lane, e.letters_sequence, rows_max);
            e.dead_letters := e.dead_letters + page.blanked;
            IF page.last_lane IS NULL THEN
                PERFORM public.forget_salt(e.organization_id, e.candidate_id);
                e.operations := public.blank_operations(e.organization_id, e.candidate_id);
                e.completed_at := at_instant;
            ELSE
                e.letters_lane := page.last_lane;
                e.letters_sequence := page.last_sequence;
            END IF;
        END IF;
    END IF;
    UPDATE public.erasures AS o
    SET looked_at = clock_timestamp(), letters_lane = e.letters_lane,
        letters_sequence = e.letters_sequence, journal_rows = e.journal_rows,
        operations = e.operations, dead_letters = e.dead_letters, completed_at = e.completed_at
    WHERE o.organization_id = e.organization_id AND o.candidate_id = e.candidate_id;
    RETURN QUERY
        SELECT e.organization_id, e.candidate_id, e.command_id, e.command_source, j.command_type,
               e.actor, j.traceparent, j.tracestate, e.accepted_at, e.journal_rows, e.operations,
               e.dead_letters, idle, e.completed_at IS NOT NULL
        FROM (SELECT) AS one
        LEFT JOIN public.journal AS j
            ON j.lane = e.lane AND j.result_sequence = e.result_sequence
            AND j.recorded_at = e.accepted_at;
END
$$;

GRANT SELECT, INSERT ON erasures TO funnel_consumer;
GRANT DELETE ON candidates TO funnel_consumer;
GRANT SELECT ON erasures TO funnel_audit, funnel_operator, funnel_sealer, funnel_retention;
REVOKE ALL ON FUNCTION without_candidate(jsonb, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION blank_journal(uuid, uuid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION blank_operations(uuid, uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION blank_letters(uuid, uuid, integer, bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION erase_step(integer, timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_step(integer, timestamptz, integer) TO funnel_consumer;

-- They run with the eraser's rights. Who is no superuser must be able to become it to give it them.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT funnel_eraser TO %I', current_user);
    END IF;
END
$$;
GRANT CREATE ON SCHEMA public TO funnel_eraser;
ALTER FUNCTION without_candidate(jsonb, uuid) OWNER TO funnel_eraser;
ALTER FUNCTION blank_journal(uuid, uuid, integer) OWNER TO funnel_eraser;
ALTER FUNCTION blank_operations(uuid, uuid) OWNER TO funnel_eraser;
ALTER FUNCTION blank_letters(uuid, uuid, integer, bigint, integer) OWNER TO funnel_eraser;
ALTER FUNCTION erase_step(integer, timestamptz, integer) OWNER TO funnel_eraser;
REVOKE CREATE ON SCHEMA public FROM funnel_eraser;

-- migrate:down

DROP FUNCTION erase_step(integer, timestamptz, integer);
DROP FUNCTION blank_letters(uuid, uuid, integer, bigint, integer);
DROP FUNCTION blank_operations(uuid, uuid);
DROP FUNCTION blank_journal(uuid, uuid, integer);
DROP FUNCTION without_candidate(jsonb, uuid);
DROP POLICY everything_to_eraser ON bulk_operation_items;
DROP POLICY everything_to_eraser ON bulk_operation_chunks;
DROP POLICY everything_to_eraser ON bulk_operations;
DROP POLICY everything_to_eraser ON journal;
REVOKE DELETE ON candidates FROM funnel_consumer;
DROP OWNED BY funnel_eraser;
DROP INDEX journal_dry_runs;
ALTER TABLE journal DROP CONSTRAINT journal_kind_check, ADD CONSTRAINT journal_kind_check CHECK (
    kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed', 'repair'));
DROP TABLE erasures;
