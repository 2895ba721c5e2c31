-- The keys of candidates of some 300 pages from all over the table, or all where it is small.
SELECT organization_id, candidate_id
FROM candidates TABLESAMPLE SYSTEM ((
    least(100, 300 * 100.0 * current_setting('block_size')::bigint
               / greatest(1, pg_relation_size('candidates')))))
ORDER BY organization_id, candidate_id
