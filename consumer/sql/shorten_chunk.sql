-- What is left of a chunk once its first $4 candidates are done: nothing, or the rest.
WITH rest AS (
    UPDATE bulk_operation_chunks
    SET first_ordinal = first_ordinal + $4::integer,
        candidate_ids = candidate_ids[$4 + 1:], expected_versions = expected_versions[$4 + 1:]
    WHERE organization_id = $1 AND operation_id = $2 AND first_ordinal = $3
      AND cardinality(candidate_ids) > $4
    RETURNING 1
), done AS (
    DELETE FROM bulk_operation_chunks
    WHERE organization_id = $1 AND operation_id = $2 AND first_ordinal = $3
      AND cardinality(candidate_ids) <= $4
    RETURNING 1
)
SELECT (SELECT count(*) FROM rest) + (SELECT count(*) FROM done)
