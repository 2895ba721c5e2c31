-- An operation after one more chunk, or at its end. Of the chunk that begins at $15, once its first
-- $16 candidates are done, nothing is left, or the rest.
WITH rest AS (
    UPDATE bulk_operation_chunks
    SET first_ordinal = first_ordinal + $16::integer,
        candidate_ids = candidate_ids[$16 + 1:], expected_versions = expected_versions[$16 + 1:]
    WHERE organization_id = $1 AND operation_id = $2 AND first_ordinal = $15
      AND cardinality(candidate_ids) > $16
), done AS (
    DELETE FROM bulk_operation_chunks
    WHERE organization_id = $1 AND operation_id = $2 AND first_ordinal = $15
      AND cardinality(candidate_ids) <= $16
)
UPDATE bulk_operations
SET status = $3, applied = $4, unchanged = $5, conflict = $6, not_found = $7, invalid = $8,
    cancelled = $9, pending = $10, next_ordinal = $11, differences = $12, updated_at = $13,
    completed_at = $14
WHERE organization_id = $1 AND operation_id = $2 AND completed_at IS NULL
