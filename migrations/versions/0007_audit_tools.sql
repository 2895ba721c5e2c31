-- migrate:up

-- The role of repairs: corrects candidates that differ from the journal, and journals that it did.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'funnel_repair') THEN
        BEGIN
            CREATE ROLE funnel_repair NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster was migrated at the same moment
        END;
    END IF;
END
$$;

-- `repair`: a candidate's row was made again what the journal says. The new rule allows more than
-- the old one, so every row there is fits it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE journal DROP CONSTRAINT journal_kind_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE journal ADD CONSTRAINT journal_kind_check CHECK (
    kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed', 'repair'));

-- The arrivals of a command that settled nothing (repeats, reroutes, dead letters), for
-- `funnel explain`. Few rows are in it, so it costs the hot path next to nothing.
-- A partitioned table takes no CONCURRENTLY.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_other_arrivals ON journal (organization_id, command_id)
    WHERE identity IS NULL AND kind IN ('command', 'reroute', 'dead_letter');

-- Where an auditor rebuilds the state beside the real one, and nothing else is.
CREATE SCHEMA shadow;
GRANT USAGE, CREATE ON SCHEMA shadow TO funnel_audit;

GRANT USAGE ON SCHEMA public TO funnel_repair;
GRANT SELECT, INSERT, UPDATE, DELETE ON candidates TO funnel_repair;
GRANT SELECT, INSERT, UPDATE ON candidate_names TO funnel_repair;
GRANT SELECT, INSERT ON journal TO funnel_repair;
GRANT SELECT, UPDATE ON lanes TO funnel_repair;
CREATE POLICY everything_to_repairs ON candidates TO funnel_repair
    USING (true) WITH CHECK (true);
CREATE POLICY everything_to_repairs ON candidate_names TO funnel_repair
    USING (true) WITH CHECK (true);
CREATE POLICY everything_to_repairs ON journal TO funnel_repair USING (true) WITH CHECK (true);

-- migrate:down

DROP POLICY everything_to_repairs ON journal;
DROP POLICY everything_to_repairs ON candidate_names;
DROP POLICY everything_to_repairs ON candidates;
REVOKE ALL ON lanes, journal, candidates, candidate_names FROM funnel_repair;
REVOKE USAGE ON SCHEMA public FROM funnel_repair;
DROP SCHEMA shadow CASCADE;
DROP INDEX journal_other_arrivals;
ALTER TABLE journal DROP CONSTRAINT journal_kind_check,
    ADD CONSTRAINT journal_kind_check CHECK (
        kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed'));
