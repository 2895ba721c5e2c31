-- What became of candidates of one bulk operation, behind ordinal $3 less one.
INSERT INTO bulk_operation_items (organization_id, operation_id, ordinal, candidate_id, outcome,
                                  version, details)
SELECT $1, $2, $3::integer + n.ordinal - 1, n.candidate_id, n.outcome, n.version, n.details
FROM unnest($4::text::uuid[], $5::text::text[], $6::text::bigint[], $7::json[]) WITH ORDINALITY
    AS n (candidate_id, outcome, version, details, ordinal)
