-- The first $3 versions of one candidate in the journal that do not follow the one before.
SELECT version, version_before
FROM (
    SELECT version, lag(version, 1, 0::bigint) OVER (ORDER BY version) AS version_before
    FROM journal
    WHERE organization_id = $1 AND candidate_id = $2 AND change_sequence IS NOT NULL
) AS versions
WHERE (version = version_before + 1) IS NOT TRUE
ORDER BY version
LIMIT $3
