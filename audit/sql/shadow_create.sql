-- Empty tables for a rebuilt state, which has no constraint, as what the journal says is to be seen
-- as it is; for the run that fills it; and for the ranges of keys that it has loaded.
CREATE UNLOGGED TABLE shadow.candidates AS
SELECT organization_id, candidate_id, first_name, last_name, email, phone, status, pipeline_stage,
       rating, source, tags, attributes, version, created_at, updated_at
FROM candidates
WITH NO DATA;
CREATE UNLOGGED TABLE shadow.run (
    journal text NOT NULL,            -- what was read: its build, schema and beginning
    lanes integer[] NOT NULL,
    results bigint[] NOT NULL,        -- of the lanes, as the run began
    compared text,                    -- the number of the first key that is still to be compared
    repaired bigint NOT NULL DEFAULT 0,
    findings json                     -- of what is compared
);
CREATE UNLOGGED TABLE shadow.loaded (
    first_organization_id uuid NOT NULL,
    first_candidate_id uuid NOT NULL,
    last_organization_id uuid NOT NULL,
    last_candidate_id uuid NOT NULL,
    candidates_total bigint NOT NULL,
    unreadable json NOT NULL          -- organization, candidate and SQLSTATE of each
);
