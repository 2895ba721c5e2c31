-- migrate:up

-- Drops the oldest partition as a whole. Refuses unless everything in it is older than
-- deduplication reaches back, published, sealed, part of a checkpoint and, if asked for, archived.
-- Digests of its erased rows go first: nobody hashes these rows again, and DROP locks readers out.
CREATE OR REPLACE FUNCTION drop_journal_partition(
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

-- Of the months that are dropped already.
DELETE FROM journal_erased_rows AS e USING checkpoints AS c
WHERE c.dropped_at IS NOT NULL AND e.lane = c.lane AND e.result_sequence <= c.result_sequence;

-- Names whose candidate is none are removed by a repair.
GRANT DELETE ON candidate_names TO funnel_repair;

-- migrate:down

REVOKE DELETE ON candidate_names FROM funnel_repair;
CREATE OR REPLACE FUNCTION drop_journal_partition(
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
