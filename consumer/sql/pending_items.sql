-- How many items of an operation that goes on are pending.
SELECT pending FROM bulk_operations
WHERE organization_id = $1 AND operation_id = $2 AND completed_at IS NULL
