-- Of a range of keys: how many versions and candidates, and the candidates whose versions are not
-- 1, 2, 3… in the journal (from the checkpoint's on, where there is one), up to that of their row,
-- or of the tombstone where they were erased. So many distinct whole numbers from the first to the
-- last leave none out.
WITH told AS (
    SELECT j.organization_id, j.candidate_id, count(*) AS versions_total,
           min(j.version) AS first, max(j.version) AS version,
           count(DISTINCT j.version) = count(*)
               AND max(j.version) - min(j.version) + 1 = count(*) AS whole
    FROM (
        SELECT organization_id, candidate_id, version FROM journal
        WHERE change_sequence IS NOT NULL
          AND (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
          AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
        ORDER BY organization_id, candidate_id, version OFFSET 0) AS j
    LEFT JOIN checkpoint_candidates AS p
        ON p.organization_id = j.organization_id AND p.candidate_id = j.candidate_id
        AND (p.organization_id, p.candidate_id) >= ($1::uuid, $2::uuid)
        AND (p.organization_id, p.candidate_id) <= ($3::uuid, $4::uuid)
    WHERE (j.version <= p.version) IS NOT TRUE
    GROUP BY j.organization_id, j.candidate_id
), cuts AS (
    SELECT organization_id, candidate_id, version AS cut
    FROM checkpoint_candidates
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
), newest AS (
    SELECT organization_id, candidate_id, coalesce(version, cut) AS version,
           coalesce(versions_total, 0) + (cut IS NOT NULL)::integer AS versions_total,
           versions_total IS NULL OR (whole AND first = coalesce(cut, 0) + 1) IS TRUE AS whole
    FROM told FULL JOIN cuts USING (organization_id, candidate_id)
), rows AS (
    SELECT organization_id, candidate_id, version
    FROM candidates
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
    ORDER BY organization_id, candidate_id OFFSET 0
)
SELECT coalesce(sum(newest.versions_total), 0)::bigint AS versions_total,
       count(rows.version) AS candidates_total,
       array_agg(ARRAY[organization_id, candidate_id]) FILTER (
           WHERE newest.whole IS NOT TRUE OR CASE WHEN e.version IS NULL
               THEN newest.version IS DISTINCT FROM rows.version
               ELSE newest.version IS DISTINCT FROM e.version OR rows.version IS NOT NULL END
       ) AS suspects
FROM newest FULL JOIN rows USING (organization_id, candidate_id)
LEFT JOIN (
    SELECT organization_id, candidate_id, version
    FROM erasures
    WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
      AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
) AS e USING (organization_id, candidate_id)
