-- What a bulk operation changed in the background, as it was recorded.
INSERT INTO pg_temp.candidates AS c
SELECT k.organization_id, k.candidate_id, s.first_name, s.last_name, s.email, s.phone, s.status,
       s.pipeline_stage, s.rating, s.source, s.tags, s.attributes, s.version, s.created_at,
       s.updated_at
FROM unnest($1::uuid[], $2::uuid[], $3::json[]) AS k (organization_id, candidate_id, change)
CROSS JOIN LATERAL json_to_record(k.change -> 'state')
    AS s (first_name text, last_name text, email text, phone text, status text,
              pipeline_stage text, rating smallint, source text, tags text[], attributes jsonb,
              version bigint, created_at timestamptz, updated_at timestamptz)
ON CONFLICT (organization_id, candidate_id) DO UPDATE
SET first_name = excluded.first_name, last_name = excluded.last_name,
    email = excluded.email, phone = excluded.phone, status = excluded.status,
    pipeline_stage = excluded.pipeline_stage, rating = excluded.rating, source = excluded.source,
    tags = excluded.tags, attributes = excluded.attributes, version = excluded.version,
    created_at = excluded.created_at, updated_at = excluded.updated_at
