-- Of a range of keys: how many rows of candidate_names there are, and those that are not what lists
-- and filters are to find the candidates by: a key, and what is wrong with it.
SELECT count(n.candidate_id) AS names_total,
       array_agg(ARRAY[organization_id::text, candidate_id::text, d.wrong]) FILTER (
           WHERE d.wrong IS NOT NULL) AS wrong
FROM (SELECT organization_id, candidate_id, created_at, first_name, last_name, email
      FROM candidates
      WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
        AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
      ORDER BY organization_id, candidate_id OFFSET 0) AS c
FULL JOIN (SELECT organization_id, candidate_id, created_at, first_name, last_name, email
           FROM candidate_names
           WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
             AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
           ORDER BY organization_id, candidate_id OFFSET 0) AS n
    USING (organization_id, candidate_id)
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN n.created_at IS NULL THEN 'no row'
        WHEN c.created_at IS NULL THEN 'a row without a candidate'
        WHEN ROW(n.created_at, n.first_name, n.last_name, n.email) IS DISTINCT FROM
             ROW(c.created_at, folded(c.first_name), folded(c.last_name), folded(c.email))
        THEN 'another ' || concat_ws(', ',
            CASE WHEN n.created_at <> c.created_at THEN 'created_at' END,
            CASE WHEN n.first_name <> folded(c.first_name) THEN 'first_name' END,
            CASE WHEN n.last_name <> folded(c.last_name) THEN 'last_name' END,
            CASE WHEN n.email <> folded(c.email) THEN 'email' END)
    END AS wrong) AS d
