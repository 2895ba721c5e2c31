-- Items of one operation with these outcomes, in order.
SELECT ordinal, candidate_id, outcome, version, details
FROM bulk_operation_items
WHERE organization_id = $1 AND operation_id = $2 AND outcome = ANY ($3::text[])
ORDER BY ordinal
LIMIT $4
