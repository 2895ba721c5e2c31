-- migrate:up

-- `funnel recover` has the consumer's rights, and makes a repair that was lost again: the state of
-- a candidate that has not changed since a checkpoint is only there.
GRANT SELECT ON checkpoint_candidates TO funnel_consumer;

-- migrate:down

REVOKE SELECT ON checkpoint_candidates FROM funnel_consumer;
