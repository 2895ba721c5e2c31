-- The bulk operations that a batch names: what they do and how far they are.
SELECT o.organization_id::text, o.operation_id::text, o.changes, o.on_conflict, o.dry_run, o.status,
       o.total, o.applied, o.unchanged, o.conflict, o.not_found, o.invalid, o.cancelled, o.pending,
       o.completed_at IS NOT NULL AS ended, (o.completed_at < $3) IS TRUE AS expired
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, operation_id)
CROSS JOIN LATERAL (
    SELECT * FROM bulk_operations AS o
    WHERE o.organization_id = k.organization_id AND o.operation_id = k.operation_id
    LIMIT 1) AS o
