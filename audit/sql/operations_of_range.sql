-- The operations of a range: what their rows say, and what their items, the chunks still to be done
-- and the journal say. `items` and `told` are in the order of the outcomes.
SELECT o.organization_id, o.operation_id, o.total, o.pending,
       ARRAY[o.applied, o.unchanged, o.conflict, o.not_found, o.invalid, o.cancelled] AS told,
       i.items, i.distinct_total, c.pending_total,
       CASE WHEN o.dry_run THEN 0 ELSE o.applied END AS changes_told, j.changes_total
FROM bulk_operations AS o
CROSS JOIN LATERAL (
    SELECT ARRAY[count(*) FILTER (WHERE outcome = 'applied'),
                 count(*) FILTER (WHERE outcome = 'unchanged'),
                 count(*) FILTER (WHERE outcome = 'conflict'),
                 count(*) FILTER (WHERE outcome = 'not_found'),
                 count(*) FILTER (WHERE outcome = 'invalid'),
                 count(*) FILTER (WHERE outcome = 'cancelled')] AS items,
           count(DISTINCT candidate_id) AS distinct_total
    FROM bulk_operation_items
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id) AS i
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cardinality(candidate_ids)), 0) AS pending_total
    FROM bulk_operation_chunks
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id) AS c
CROSS JOIN LATERAL (
    SELECT count(*) AS changes_total
    FROM bulk_operation_items AS n
    JOIN journal AS j
        ON j.organization_id = n.organization_id AND j.candidate_id = n.candidate_id
        AND j.version = n.version AND j.change_sequence IS NOT NULL
        AND j.operation_id = n.operation_id
    WHERE n.organization_id = o.organization_id AND n.operation_id = o.operation_id
      AND n.outcome = 'applied') AS j
WHERE (o.organization_id, o.operation_id) >= ($1::uuid, $2::uuid)
  AND (o.organization_id, o.operation_id) <= ($3::uuid, $4::uuid)
  AND o.error IS NULL
ORDER BY o.organization_id, o.operation_id
