-- A bounded part of a lane's erasure, with the rights of the eraser; no row if none is open.
SELECT organization_id, candidate_id, command_id, command_source, command_type, actor, traceparent,
       tracestate, accepted_at, journal_rows, operations, dead_letters, idle, completed
FROM erase_step($1, $2, $3)
