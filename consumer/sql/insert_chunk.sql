-- Some candidates that an operation still has to change.
INSERT INTO bulk_operation_chunks (organization_id, operation_id, first_ordinal, candidate_ids,
                                   expected_versions)
VALUES ($1, $2, $3, $4, $5)
