-- Forgets operations of a lane that ended longer than $2 ago, at most $3 of them and of their items
-- a time: items first, an operation once none is left. Tells how many items went.
WITH old AS (
    SELECT organization_id, operation_id, total,
           sum(total) OVER (ORDER BY completed_at, operation_id) AS items_total
    FROM (
        SELECT organization_id, operation_id, total, completed_at FROM bulk_operations
        WHERE lane = $1 AND completed_at < clock_timestamp() - $2::interval
        ORDER BY completed_at, operation_id LIMIT $3) AS ended
), chosen AS (
    SELECT organization_id, operation_id, items_total <= $3 AS whole FROM old
    WHERE items_total <= $3 OR items_total = total
), items AS (
    SELECT i.organization_id, i.operation_id, i.ordinal
    FROM chosen AS o
    JOIN bulk_operation_items AS i USING (organization_id, operation_id)
    LIMIT $3
), items_gone AS (
    DELETE FROM bulk_operation_items AS i USING items AS d
    WHERE i.organization_id = d.organization_id AND i.operation_id = d.operation_id
      AND i.ordinal = d.ordinal
    RETURNING 1
), begun AS (  -- what is no longer whole is no longer held against it
    UPDATE bulk_operations AS o SET error = 'expired' FROM chosen AS d
    WHERE o.organization_id = d.organization_id AND o.operation_id = d.operation_id
      AND NOT d.whole AND o.error IS NULL
), operations_gone AS (
    DELETE FROM bulk_operations AS o USING chosen AS d
    WHERE o.organization_id = d.organization_id AND o.operation_id = d.operation_id
      AND (d.whole OR o.error IS NOT NULL AND NOT EXISTS (
          SELECT FROM bulk_operation_items AS i
          WHERE i.organization_id = d.organization_id AND i.operation_id = d.operation_id))
    RETURNING 1
)
SELECT (SELECT count(*) FROM items_gone) + (SELECT count(*) FROM operations_gone)
