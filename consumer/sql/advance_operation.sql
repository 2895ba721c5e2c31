-- An operation after one more chunk, or at its end.
UPDATE bulk_operations
SET status = $3, applied = $4, unchanged = $5, conflict = $6, not_found = $7, invalid = $8,
    cancelled = $9, pending = $10, next_ordinal = $11, differences = $12, updated_at = $13,
    completed_at = $14
WHERE organization_id = $1 AND operation_id = $2 AND completed_at IS NULL
