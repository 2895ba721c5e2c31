-- migrate:up

-- A unit of the journal may have several rows now: the changes of a bulk operation, and the result
-- or the news of it that closes them.
ALTER TABLE journal ADD COLUMN operation_id uuid;
-- The new rule allows more than the old one, so every row there is fits it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE journal DROP CONSTRAINT journal_kind_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE journal ADD CONSTRAINT journal_kind_check CHECK (
    kind IN ('command', 'reroute', 'dead_letter', 'item', 'progress', 'completed'));

-- Bulk operations: large ones as they go on, small ones as they were settled.
CREATE TABLE bulk_operations (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    lane integer NOT NULL,
    parent_id uuid,                   -- of which operation this one tries the failed items again
    -- which command it does, and for whom
    command_id text NOT NULL,
    command_source text NOT NULL,
    actor text NOT NULL,
    traceparent text,
    tracestate text,
    type text NOT NULL,
    changes json NOT NULL,
    filter json,
    on_conflict text NOT NULL CHECK (on_conflict IN ('reject', 'merge', 'overwrite')),
    dry_run boolean NOT NULL,
    -- how far it is; a cancelled one may still have pending items, which are cancelled in chunks
    status text NOT NULL CHECK (status IN ('running', 'paused', 'completed', 'cancelled')),
    total integer NOT NULL,
    applied integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    conflict integer NOT NULL DEFAULT 0,
    not_found integer NOT NULL DEFAULT 0,
    invalid integer NOT NULL DEFAULT 0,
    cancelled integer NOT NULL DEFAULT 0,
    pending integer NOT NULL CHECK (pending >= 0),
    next_ordinal integer NOT NULL DEFAULT 0,
    differences json,                 -- of a dry run, the first 100
    error text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    PRIMARY KEY (organization_id, operation_id),
    CHECK (applied + unchanged + conflict + not_found + invalid + cancelled + pending = total),
    CHECK ((completed_at IS NOT NULL) = (status = 'completed'
        OR status = 'cancelled' AND pending = 0))
) WITH (fillfactor = 50);

-- What a lane's owner still has to do, in the order in which it takes turns.
CREATE INDEX bulk_operations_open ON bulk_operations (lane, organization_id, updated_at)
    WHERE completed_at IS NULL AND status <> 'paused';
CREATE INDEX bulk_operations_newest ON bulk_operations (organization_id, created_at, operation_id);
CREATE INDEX bulk_operations_ended ON bulk_operations (lane, completed_at)
    WHERE completed_at IS NOT NULL;

-- Work not done yet, a row for each chunk of items; gone once it is done.
CREATE TABLE bulk_operation_chunks (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    first_ordinal integer NOT NULL,
    candidate_ids uuid[] NOT NULL,
    expected_versions bigint[],
    PRIMARY KEY (organization_id, operation_id, first_ordinal)
);

-- What became of each item, written once, when it was decided. A candidate at `version`, if any.
CREATE TABLE bulk_operation_items (
    organization_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    ordinal integer NOT NULL,
    candidate_id uuid NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('applied', 'unchanged', 'conflict', 'not_found',
                                             'invalid', 'cancelled')),
    version bigint,
    details json,                     -- of a failure: what the result of a single command tells
    PRIMARY KEY (organization_id, operation_id, ordinal)
);
CREATE INDEX bulk_operation_items_failed
    ON bulk_operation_items (organization_id, operation_id, outcome, ordinal)
    WHERE outcome IN ('conflict', 'not_found', 'invalid', 'cancelled');

GRANT SELECT, INSERT, UPDATE, DELETE
    ON bulk_operations, bulk_operation_chunks, bulk_operation_items TO funnel_consumer;
GRANT SELECT ON bulk_operations, bulk_operation_chunks, bulk_operation_items
    TO funnel_api, funnel_audit;

ALTER TABLE bulk_operations ENABLE ROW LEVEL SECURITY;
ALTER TABLE bulk_operation_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE bulk_operation_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON bulk_operations TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY everything ON bulk_operation_chunks TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY everything ON bulk_operation_items TO funnel_consumer, funnel_audit
    USING (true) WITH CHECK (true);
CREATE POLICY own_organization ON bulk_operations FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON bulk_operation_chunks FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);
CREATE POLICY own_organization ON bulk_operation_items FOR SELECT TO funnel_api
    USING (organization_id = nullif(current_setting('funnel.organization_id', true), '')::uuid);

-- migrate:down

DROP TABLE bulk_operation_items, bulk_operation_chunks, bulk_operations;
ALTER TABLE journal DROP CONSTRAINT journal_kind_check, DROP COLUMN operation_id,
    ADD CONSTRAINT journal_kind_check CHECK (kind IN ('command', 'reroute', 'dead_letter'));
