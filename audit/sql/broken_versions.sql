-- The first $3 versions of one candidate in the journal that do not follow the one before, or the
-- checkpoint's.
SELECT version, version_before
FROM (
    SELECT j.version,
           lag(j.version, 1, coalesce(p.version, 0)) OVER (ORDER BY j.version) AS version_before
    FROM journal AS j
    LEFT JOIN checkpoint_candidates AS p
        ON p.organization_id = j.organization_id AND p.candidate_id = j.candidate_id
    WHERE j.organization_id = $1 AND j.candidate_id = $2 AND j.change_sequence IS NOT NULL
        AND (j.version <= p.version) IS NOT TRUE
) AS versions
WHERE (version = version_before + 1) IS NOT TRUE
ORDER BY version
LIMIT $3
