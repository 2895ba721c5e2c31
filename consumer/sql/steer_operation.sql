-- Pauses, resumes or cancels an operation that goes on.
UPDATE bulk_operations SET status = $3, updated_at = $4
WHERE organization_id = $1 AND operation_id = $2 AND completed_at IS NULL
