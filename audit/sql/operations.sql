-- Bulk operations of one organization or of all, the newest $3 first.
SELECT organization_id, operation_id, parent_id, lane, command_id, command_source, actor, changes,
       filter, on_conflict, dry_run, status, total, applied, unchanged, conflict, not_found,
       invalid, cancelled, pending, created_at, updated_at, completed_at
FROM bulk_operations
WHERE ($1::uuid IS NULL OR organization_id = $1) AND ($2::text IS NULL OR status = $2)
ORDER BY created_at DESC, operation_id DESC
LIMIT $3
