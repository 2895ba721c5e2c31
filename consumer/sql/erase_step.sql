-- A bounded part of one of a lane's erasures, with the rights of the eraser; no row if none is open.
SELECT organization_id, candidate_id, command_id, command_source, command_type, actor, traceparent,
       tracestate, accepted_at, journal_rows, operations, dead_letters, idle, completed, busy
FROM erase_step($1, $2, $3, $4, $5)
