-- A page of an organization's bulk operations, newest first, after a place in that order.
SELECT organization_id::text, operation_id::text, parent_id::text, command_id, command_source,
       actor, type, changes::text, filter::text, on_conflict, dry_run, status, total, applied,
       unchanged, conflict, not_found, invalid, cancelled, pending, NULL AS differences, error,
       created_at, updated_at, completed_at
FROM list_operations($1, $2, $3, $4, $5)
