-- Of a range of keys, the candidates of which the rebuilt state and the state differ at this
-- moment, and how many there are of both together.
SELECT count(*) AS candidates_total,
       array_agg(ARRAY[organization_id, candidate_id]) FILTER (
           WHERE ROW(r.first_name, r.last_name, r.email, r.phone, r.status, r.pipeline_stage,
                     r.rating, r.source, r.tags, r.attributes, r.version, r.created_at,
                     r.updated_at)
           IS DISTINCT FROM
                 ROW(c.first_name, c.last_name, c.email, c.phone, c.status, c.pipeline_stage,
                     c.rating, c.source, c.tags, c.attributes, c.version, c.created_at,
                     c.updated_at)) AS suspects
FROM (SELECT * FROM shadow.candidates
      WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
        AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
      ORDER BY organization_id, candidate_id OFFSET 0) AS r
FULL JOIN (SELECT * FROM candidates
           WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
             AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
           ORDER BY organization_id, candidate_id OFFSET 0) AS c
    USING (organization_id, candidate_id)
