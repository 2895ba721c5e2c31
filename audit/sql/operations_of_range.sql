-- The operations of a range: what their rows say, and what their items, the chunks still to be done
-- and the journal say. `items` and `told` are in the order of the outcomes. Of a change from before
-- the journal begins the checkpoint tells that it was made.
SELECT o.organization_id, o.operation_id, o.total, o.pending,
       ARRAY[o.applied, o.unchanged, o.conflict, o.not_found, o.invalid, o.cancelled] AS told,
       i.items, i.distinct_total, i.odd_total, c.pending_total,
       i.ordinals_sum + c.ordinals_sum AS ordinals_sum, k.unknown_total,
       CASE WHEN o.dry_run THEN 0 ELSE o.applied END AS changes_told, j.changes_total
FROM bulk_operations AS o
CROSS JOIN LATERAL (
    SELECT ARRAY[count(*) FILTER (WHERE outcome = 'applied'),
                 count(*) FILTER (WHERE outcome = 'unchanged'),
                 count(*) FILTER (WHERE outcome = 'conflict'),
                 count(*) FILTER (WHERE outcome = 'not_found'),
                 count(*) FILTER (WHERE outcome = 'invalid'),
                 count(*) FILTER (WHERE outcome = 'cancelled')] AS items,
           count(DISTINCT candidate_id) AS distinct_total,
           coalesce(sum(ordinal), 0) AS ordinals_sum,
           count(*) FILTER (
               WHERE (details IS NOT NULL) <> (outcome IN ('conflict', 'not_found', 'invalid'))
                  OR details IS NOT NULL
                  AND details ->> 'current_version' IS DISTINCT FROM version::text) AS odd_total
    FROM bulk_operation_items
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id) AS i
CROSS JOIN LATERAL (
    SELECT coalesce(sum(cardinality(candidate_ids)), 0) AS pending_total,
           coalesce(sum(cardinality(candidate_ids)::bigint * first_ordinal
               + cardinality(candidate_ids)::bigint * (cardinality(candidate_ids) - 1) / 2), 0)
               AS ordinals_sum
    FROM bulk_operation_chunks
    WHERE organization_id = o.organization_id AND operation_id = o.operation_id) AS c
CROSS JOIN LATERAL (
    SELECT count(*) AS changes_total
    FROM bulk_operation_items AS n
    LEFT JOIN LATERAL (
        SELECT version FROM journal AS j
        WHERE j.organization_id = n.organization_id AND j.candidate_id = n.candidate_id
          AND j.version = n.version AND j.change_sequence IS NOT NULL
          AND j.operation_id = n.operation_id
        OFFSET 0) AS j ON true
    WHERE n.organization_id = o.organization_id AND n.operation_id = o.operation_id
      AND n.outcome = 'applied'
      AND (j.version IS NOT NULL OR NOT o.dry_run AND n.version <= (
          SELECT k.version FROM checkpoint_candidates AS k
          WHERE k.organization_id = n.organization_id AND k.candidate_id = n.candidate_id))) AS j
CROSS JOIN LATERAL (
    SELECT count(*) AS unknown_total
    FROM bulk_operation_items AS n
    WHERE n.organization_id = o.organization_id AND n.operation_id = o.operation_id
      AND n.outcome IN ('unchanged', 'conflict') AND n.version IS NOT NULL
      AND NOT EXISTS (
          SELECT FROM journal AS j
          WHERE j.organization_id = n.organization_id AND j.candidate_id = n.candidate_id
            AND j.version = n.version AND j.change_sequence IS NOT NULL
          OFFSET 0)
      AND NOT EXISTS (
          SELECT FROM checkpoint_candidates AS p
          WHERE p.organization_id = n.organization_id AND p.candidate_id = n.candidate_id
            AND p.version >= n.version
          OFFSET 0)) AS k
WHERE (o.organization_id, o.operation_id) >= ($1::uuid, $2::uuid)
  AND (o.organization_id, o.operation_id) <= ($3::uuid, $4::uuid)
  AND o.error IS NULL
ORDER BY o.organization_id, o.operation_id
