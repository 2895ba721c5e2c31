-- Of a range of keys: how many versions and candidates, and the candidates whose versions are not
-- 1, 2, 3… in the journal, up to that of their row, or of the tombstone where they were erased.
WITH versions AS (
    SELECT organization_id, candidate_id, version, cut,
           lag(version, 1, 0::bigint) OVER (PARTITION BY organization_id, candidate_id
                                            ORDER BY version) AS version_before
    FROM (
        SELECT j.organization_id, j.candidate_id, j.version, false AS cut
        FROM journal AS j
        WHERE j.change_sequence IS NOT NULL
          AND (j.organization_id, j.candidate_id) >= ($1::uuid, $2::uuid)
          AND (j.organization_id, j.candidate_id) <= ($3::uuid, $4::uuid)
          AND NOT EXISTS (
              SELECT FROM checkpoint_candidates AS p
              WHERE p.organization_id = j.organization_id AND p.candidate_id = j.candidate_id
                AND p.version >= j.version)
        UNION ALL
        SELECT organization_id, candidate_id, version, true
        FROM checkpoint_candidates
        WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
          AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
    ) AS told
), newest AS (
    SELECT organization_id, candidate_id, max(version) AS version, count(*) AS versions_total,
           bool_and(cut OR (version = version_before + 1) IS TRUE) AS whole
    FROM versions
    GROUP BY organization_id, candidate_id
), rows AS (
    SELECT organization_id, candidate_id, version
    FROM candidates
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
)
SELECT coalesce(sum(newest.versions_total), 0)::bigint AS versions_total,
       count(rows.version) AS candidates_total,
       array_agg(ARRAY[organization_id, candidate_id]) FILTER (
           WHERE newest.whole IS NOT TRUE OR CASE WHEN e.version IS NULL
               THEN newest.version IS DISTINCT FROM rows.version
               ELSE newest.version IS DISTINCT FROM e.version OR rows.version IS NOT NULL END
       ) AS suspects
FROM newest FULL JOIN rows USING (organization_id, candidate_id)
LEFT JOIN erasures AS e USING (organization_id, candidate_id)
