-- What a lane has to do next, and the next chunk of it: organizations take turns ($2 was the last
-- to have one), and so do the operations of each.
SELECT o.organization_id::text, o.operation_id::text, o.command_id, o.command_source, o.actor,
       o.traceparent, o.tracestate, o.type, o.changes, o.on_conflict, o.dry_run, o.status, o.total,
       o.applied, o.unchanged, o.conflict, o.not_found, o.invalid, o.cancelled, o.pending,
       o.differences, c.first_ordinal, c.candidate_ids::text[], c.expected_versions
FROM (
    (SELECT 0 AS turn, * FROM bulk_operations
     WHERE lane = $1 AND completed_at IS NULL AND status <> 'paused' AND organization_id > $2
     ORDER BY organization_id, updated_at LIMIT 1)
    UNION ALL
    (SELECT 1, * FROM bulk_operations
     WHERE lane = $1 AND completed_at IS NULL AND status <> 'paused'
     ORDER BY organization_id, updated_at LIMIT 1)
    ORDER BY turn LIMIT 1) AS o
LEFT JOIN LATERAL (
    SELECT first_ordinal, candidate_ids, expected_versions FROM bulk_operation_chunks
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id
    ORDER BY first_ordinal LIMIT 1) AS c ON true
