-- What a lane has changed behind result $2, up to $3.
INSERT INTO shadow.candidates AS r
SELECT n.organization_id, n.candidate_id, s.first_name, s.last_name, s.email, s.phone, s.status,
       s.pipeline_stage, s.rating, s.source, s.tags, s.attributes, s.version, s.created_at,
       s.updated_at
FROM (
    SELECT DISTINCT ON (organization_id, candidate_id)
           organization_id, candidate_id, change -> 'state' AS state
    FROM journal
    WHERE lane = $1 AND result_sequence > $2 AND result_sequence <= $3
      AND change_sequence IS NOT NULL
    ORDER BY organization_id, candidate_id, version DESC
) AS n
CROSS JOIN LATERAL json_to_record(n.state)
    AS s (first_name text, last_name text, email text, phone text, status text,
              pipeline_stage text, rating smallint, source text, tags text[], attributes jsonb,
              version bigint, created_at timestamptz, updated_at timestamptz)
WHERE n.state IS NOT NULL
ON CONFLICT (organization_id, candidate_id) DO UPDATE
SET first_name = excluded.first_name, last_name = excluded.last_name,
    email = excluded.email, phone = excluded.phone, status = excluded.status,
    pipeline_stage = excluded.pipeline_stage, rating = excluded.rating, source = excluded.source,
    tags = excluded.tags, attributes = excluded.attributes, version = excluded.version,
    created_at = excluded.created_at, updated_at = excluded.updated_at
WHERE excluded.version > r.version
