-- A bulk operation as it begins, or as it ended within its batch.
INSERT INTO bulk_operations (organization_id, operation_id, lane, parent_id, command_id,
                             command_source, actor, traceparent, tracestate, type, changes, filter,
                             on_conflict, dry_run, status, total, applied, unchanged, conflict,
                             not_found, invalid, cancelled, pending, next_ordinal, differences,
                             created_at, updated_at, completed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
        $21, $22, $23, $24, $25, $26, $26, $27)
