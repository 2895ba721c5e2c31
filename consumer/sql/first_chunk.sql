-- An operation and the first chunk that is left of it, in the columns of next_chunk.
SELECT o.organization_id::text, o.operation_id::text, o.command_id, o.command_source, o.actor,
       o.traceparent, o.tracestate, o.type, o.changes, o.on_conflict, o.dry_run, o.status, o.total,
       o.applied, o.unchanged, o.conflict, o.not_found, o.invalid, o.cancelled, o.pending,
       o.differences, c.first_ordinal, c.candidate_ids::text[], c.expected_versions
FROM bulk_operations AS o
LEFT JOIN LATERAL (
    SELECT first_ordinal, candidate_ids, expected_versions FROM bulk_operation_chunks
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id
    ORDER BY first_ordinal LIMIT 1) AS c ON true
WHERE o.organization_id = $1 AND o.operation_id = $2
