-- The last operation of the range that begins at ($1, $2): those up to $3 items, and one more.
SELECT organization_id, operation_id
FROM (
    SELECT organization_id, operation_id, total,
           sum(total + 1) OVER (ORDER BY organization_id, operation_id) AS items_total
    FROM (
        SELECT organization_id, operation_id, total FROM bulk_operations
        WHERE (organization_id, operation_id) >= ($1::uuid, $2::uuid)
        ORDER BY organization_id, operation_id LIMIT $3) AS piece) AS summed
WHERE items_total - (total + 1) < $3
ORDER BY organization_id DESC, operation_id DESC
LIMIT 1
