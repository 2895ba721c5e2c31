-- migrate:up

-- Where an erasure stands. `phase`: what is gone through now, null before the first step and once
-- all is done; `place_…`: how far, in the order of that phase. `pass_at`: when that began;
-- `letters_at`: when it began the last time that dead letters were gone through. `again`: the
-- candidate was named since; 2: dead letters are to be looked at again, too.
ALTER TABLE erasures
    ADD COLUMN phase text,
    ADD COLUMN place_at timestamptz,
    ADD COLUMN place_lane integer,
    ADD COLUMN place_sequence bigint,
    ADD COLUMN place_operation uuid,
    ADD COLUMN pass_at timestamptz,
    ADD COLUMN letters_at timestamptz,
    ADD COLUMN again smallint NOT NULL DEFAULT 0;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX erasures_open;
-- Organizations take turns. Erasures are few.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX erasures_open ON erasures (lane, organization_id, looked_at)
    WHERE completed_at IS NULL OR phase IS NOT NULL OR again > 0;

-- The rows that an erasure goes through, now in an order in which it can go on; each row still has
-- one of these indexes at most. A partitioned table takes no CONCURRENTLY.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX journal_candidate_others;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_candidate_others ON journal (organization_id, candidate_id, recorded_at)
    WHERE change_sequence IS NULL AND candidate_id IS NOT NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX journal_dry_runs;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_dry_runs ON journal (organization_id, recorded_at)
    WHERE kind = 'command' AND operation_id IS NOT NULL AND outcome = 'unchanged';

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
-- Dead letters are few.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_owner
    ON dead_letters (dead_letter_owner(organization_id, record), lane, result_sequence)
    WHERE dead_letter_owner(organization_id, record) IS NOT NULL;

-- Only one another called them; who calls `erase_step` as before calls the new one.
-- squawk-ignore ban-drop-function
DROP FUNCTION erase_step(integer, timestamptz, integer);
-- squawk-ignore ban-drop-function
DROP FUNCTION blank_letters(uuid, uuid, integer, bigint, integer);
-- squawk-ignore ban-drop-function
DROP FUNCTION blank_operations(uuid, uuid);
-- squawk-ignore ban-drop-function
DROP FUNCTION blank_journal(uuid, uuid, integer);

-- Forgets a candidate's salt, once the digests of all rows that were hashed with it are kept; those
-- that are sealed later get a new one. Tells how many salts there were.
CREATE OR REPLACE FUNCTION forget_salt(of_organization uuid, of_candidate uuid) RETURNS bigint
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
GRANT UPDATE (again) ON erasures TO funnel_consumer;
GRANT UPDATE (phase, place_at, place_lane, place_sequence, place_operation, pass_at, letters_at,
              again, result_sequences) ON erasures TO funnel_eraser;
GRANT SELECT ON journal_salts, checkpoint_candidates TO funnel_eraser;
GRANT UPDATE (state, personal_digest) ON checkpoint_candidates TO funnel_eraser;
GRANT CREATE ON SCHEMA public TO funnel_eraser;
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

-- migrate:down

DROP FUNCTION
    erase_step(integer, timestamptz, integer, bigint, uuid),
    blank_letters(uuid, uuid, timestamptz, integer, bigint, integer, bigint),
    blank_operations(uuid, uuid, uuid, bigint, integer, bigint),
    blank_dry_runs(uuid, uuid, timestamptz, timestamptz, integer, bigint, integer, bigint),
    blank_journal(uuid, uuid, boolean, timestamptz, integer, bigint, bigint[], integer, bigint),
    blank_checkpoint(uuid, uuid);
REVOKE ALL ON journal_salts, checkpoint_candidates FROM funnel_eraser;
REVOKE UPDATE (again) ON erasures FROM funnel_consumer;
DROP INDEX dead_letters_owner;
DROP FUNCTION dead_letter_owner(uuid, bytea);
DROP INDEX journal_dry_runs;
CREATE INDEX journal_dry_runs ON journal (organization_id)
    WHERE kind = 'command' AND operation_id IS NOT NULL AND outcome = 'unchanged';
DROP INDEX journal_candidate_others;
CREATE INDEX journal_candidate_others ON journal (organization_id, candidate_id)
    WHERE change_sequence IS NULL AND candidate_id IS NOT NULL;
DROP INDEX erasures_open;
ALTER TABLE erasures DROP COLUMN phase, DROP COLUMN place_at, DROP COLUMN place_lane,
    DROP COLUMN place_sequence, DROP COLUMN place_operation, DROP COLUMN pass_at,
    DROP COLUMN letters_at, DROP COLUMN again;
CREATE INDEX erasures_open ON erasures (lane, looked_at) WHERE completed_at IS NULL;

CREATE OR REPLACE FUNCTION forget_salt(of_organization uuid, of_candidate uuid) RETURNS bigint
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

REVOKE ALL ON FUNCTION
    blank_journal(uuid, uuid, integer), blank_operations(uuid, uuid),
    blank_letters(uuid, uuid, integer, bigint, integer), erase_step(integer, timestamptz, integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_step(integer, timestamptz, integer) TO funnel_consumer;
GRANT CREATE ON SCHEMA public TO funnel_eraser;
ALTER FUNCTION blank_journal(uuid, uuid, integer) OWNER TO funnel_eraser;
ALTER FUNCTION blank_operations(uuid, uuid) OWNER TO funnel_eraser;
ALTER FUNCTION blank_letters(uuid, uuid, integer, bigint, integer) OWNER TO funnel_eraser;
ALTER FUNCTION erase_step(integer, timestamptz, integer) OWNER TO funnel_eraser;
REVOKE CREATE ON SCHEMA public FROM funnel_eraser;
