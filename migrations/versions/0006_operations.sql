-- migrate:up

-- Since when another client's open transaction keeps a lane from the commands behind it.
ALTER TABLE lanes ADD COLUMN held_since timestamptz;

-- Where a dead letter came from that was redriven before: the id of the first death.
ALTER TABLE dead_letters ADD COLUMN redrive_of text;

-- The queue is read by time, from either end. Dead letters are few.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX dead_letters_queue ON dead_letters (recorded_at, lane, result_sequence);
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX dead_letters_recorded_at;

-- The role of those who work the queue: they read, and note what they do; nothing is removed.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnel_operator') THEN
        BEGIN
            CREATE ROLE funnel_operator NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster was migrated at the same moment
        END;
    END IF;
END
$$;

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

REVOKE ALL ON FUNCTION journal_row_at(integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION expire_dead_letters(timestamptz, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION journal_row_at(integer, bigint) TO funnel_operator, funnel_audit;
GRANT EXECUTE ON FUNCTION expire_dead_letters(timestamptz, integer) TO funnel_consumer;
GRANT SELECT ON redrives TO funnel_audit;
GRANT USAGE ON SCHEMA public TO funnel_operator;
GRANT SELECT ON journal, lanes, consumers, dead_letters, redrives TO funnel_operator;
GRANT INSERT ON redrives TO funnel_operator;
GRANT UPDATE (sent_lane, sent_offset, outcome, reason, ended_lane, ended_sequence, ended_at)
    ON redrives TO funnel_operator;
CREATE POLICY everything_to_operators ON journal FOR SELECT TO funnel_operator USING (true);

-- migrate:down

DROP POLICY everything_to_operators ON journal;
DROP FUNCTION expire_dead_letters(timestamptz, integer);
DROP FUNCTION journal_row_at(integer, bigint);
DROP TABLE redrives;
CREATE INDEX dead_letters_recorded_at ON dead_letters (recorded_at);
DROP INDEX dead_letters_queue;
ALTER TABLE dead_letters DROP COLUMN redrive_of;
ALTER TABLE lanes DROP COLUMN held_since;
