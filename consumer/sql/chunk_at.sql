-- One chunk of an operation.
SELECT candidate_ids::text[], expected_versions FROM bulk_operation_chunks
WHERE organization_id = $1 AND operation_id = $2 AND first_ordinal = $3
