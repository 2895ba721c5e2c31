-- What became of candidates of bulk operations.
INSERT INTO bulk_operation_items (organization_id, operation_id, ordinal, candidate_id, outcome,
                                  version, details)
SELECT n.organization_id, n.operation_id, n.ordinal, n.candidate_id, n.outcome, n.version, n.details
FROM unnest($1::uuid[], $2::uuid[], $3::integer[], $4::uuid[], $5::text[], $6::bigint[],
            $7::json[])
    AS n (organization_id, operation_id, ordinal, candidate_id, outcome, version, details)
