-- migrate:up

-- Where a command went that no result answers, found by its place in the commands topic.
-- A partitioned table takes no CONCURRENTLY; dead letters are few, but the journal is read through.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_dead_letters ON journal (lane, source_offset) WHERE kind = 'dead_letter';

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

REVOKE ALL ON FUNCTION read_candidates(uuid[], uuid[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION read_commands(uuid[], text[], uuid[], uuid[], integer[], bigint[])
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION read_candidates(uuid[], uuid[]) TO funnel_api;
GRANT EXECUTE ON FUNCTION read_commands(uuid[], text[], uuid[], uuid[], integer[], bigint[])
    TO funnel_api;

-- migrate:down

DROP FUNCTION read_commands(uuid[], text[], uuid[], uuid[], integer[], bigint[]);
DROP FUNCTION read_candidates(uuid[], uuid[]);
DROP INDEX journal_dead_letters;
