-- migrate:up

-- The arrivals of a command that settled nothing (repeats, reroutes, dead letters), for
-- `funnel explain`. Few rows are in it, so it costs the hot path next to nothing.
-- A partitioned table takes no CONCURRENTLY.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX journal_other_arrivals ON journal (organization_id, command_id)
    WHERE identity IS NULL AND kind IN ('command', 'reroute', 'dead_letter');

-- migrate:down

DROP INDEX journal_other_arrivals;
