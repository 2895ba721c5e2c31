-- The bulk operations asked for that are there; each pair of arrays' elements is one question.
SELECT organization_id::text, operation_id::text, parent_id::text, command_id, command_source,
       actor, type, changes::text, filter::text, on_conflict, dry_run, status, total, applied,
       unchanged, conflict, not_found, invalid, cancelled, pending, differences::text, error,
       created_at, updated_at, completed_at
FROM read_operations($1, $2)
