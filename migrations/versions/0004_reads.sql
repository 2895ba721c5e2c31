-- migrate:up

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

-- Case does not count where people search: the same everywhere, whatever the server's locale.
CREATE FUNCTION folded(words text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN lower(words COLLATE "pg_c_utf8") COLLATE "C";

INSERT INTO candidate_names
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM candidates;

CREATE INDEX candidate_names_created_at
    ON candidate_names (organization_id, created_at, candidate_id);
CREATE INDEX candidate_names_last_name
    ON candidate_names (organization_id, last_name, candidate_id);
CREATE INDEX candidate_names_first_name ON candidate_names (organization_id, first_name);
CREATE INDEX candidate_names_email ON candidate_names (organization_id, email);

-- The only two that an update pays for. CONCURRENTLY has no place in a transaction, and this one
-- comes before the first deployment.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX candidates_updated_at ON candidates (organization_id, updated_at, candidate_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX candidates_pipeline_stage ON candidates (organization_id, pipeline_stage)
    WHERE pipeline_stage IS NOT NULL;

-- The feed of one organization: one lane writes it, so its change sequences are its order.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_changes ON journal (organization_id, change_sequence)
    WHERE change_sequence IS NOT NULL;

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

GRANT SELECT, INSERT, UPDATE ON candidate_names TO funnel_consumer;
GRANT SELECT ON candidate_names TO funnel_api, funnel_audit;
ALTER TABLE candidate_names ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON candidate_names TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON candidate_names FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);

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

-- migrate:down

DROP FUNCTION list_candidates(uuid, jsonb, text, timestamptz, text, uuid, integer, integer,
                              integer),
    read_past(uuid, uuid, bigint, timestamptz), read_history(uuid, uuid, bigint, integer),
    read_changes(uuid[], bigint[], timestamptz[], integer), read_latest_changes(uuid[]),
    journal_kept_since();
DROP INDEX journal_changes, candidates_pipeline_stage, candidates_updated_at;
DROP TABLE candidate_names;
DROP FUNCTION folded(text);
