-- Of these candidates, those that lists would not find by what their rows say, put right: which, at
-- which version; null where there is no candidate.
WITH wrong AS (
    SELECT k.organization_id, k.candidate_id, c.version, c.created_at,
           folded(c.first_name) AS first_name, folded(c.last_name) AS last_name,
           folded(c.email) AS email
    FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
    LEFT JOIN candidates AS c USING (organization_id, candidate_id)
    LEFT JOIN candidate_names AS n USING (organization_id, candidate_id)
    WHERE ROW(n.created_at, n.first_name, n.last_name, n.email) IS DISTINCT FROM
          ROW(c.created_at, folded(c.first_name), folded(c.last_name), folded(c.email))
), removed AS (
    DELETE FROM candidate_names AS n USING wrong AS w
    WHERE w.version IS NULL
        AND n.organization_id = w.organization_id AND n.candidate_id = w.candidate_id
), written AS (
    INSERT INTO candidate_names AS n (organization_id, candidate_id, created_at, first_name,
                                      last_name, email)
    SELECT organization_id, candidate_id, created_at, first_name, last_name, email
    FROM wrong WHERE version IS NOT NULL
    ON CONFLICT (organization_id, candidate_id) DO UPDATE
    SET created_at = excluded.created_at, first_name = excluded.first_name,
        last_name = excluded.last_name, email = excluded.email
)
SELECT organization_id, candidate_id, version FROM wrong
ORDER BY organization_id, candidate_id
