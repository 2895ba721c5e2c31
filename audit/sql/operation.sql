-- One bulk operation.
SELECT organization_id, operation_id, parent_id, lane, command_id, command_source, actor, changes,
       filter, on_conflict, dry_run, status, total, applied, unchanged, conflict, not_found,
       invalid, cancelled, pending, created_at, updated_at, completed_at, differences
FROM bulk_operations
WHERE organization_id = $1 AND operation_id = $2
