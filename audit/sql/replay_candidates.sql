-- Candidates as they were before result $4 of lane $3; those that are there already stay.
WITH seeded AS (
    INSERT INTO pg_temp.candidates
    SELECT k.organization_id, k.candidate_id, s.first_name, s.last_name, s.email, s.phone, s.status,
       s.pipeline_stage, s.rating, s.source, s.tags, s.attributes, s.version, s.created_at,
       s.updated_at
    FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
    CROSS JOIN LATERAL (
        SELECT version, state FROM (
            (SELECT version, change -> 'state' AS state FROM public.journal AS j
             WHERE j.organization_id = k.organization_id AND j.candidate_id = k.candidate_id
               AND j.change_sequence IS NOT NULL AND j.lane = $3 AND j.result_sequence < $4
             ORDER BY version DESC LIMIT 1)
            UNION ALL
            SELECT version, state FROM public.checkpoint_candidates AS p
            WHERE p.organization_id = k.organization_id AND p.candidate_id = k.candidate_id
              AND p.result_sequence < $4
        ) AS both_known
        ORDER BY version DESC LIMIT 1
    ) AS known
    CROSS JOIN LATERAL json_to_record(known.state)
        AS s (first_name text, last_name text, email text, phone text, status text,
              pipeline_stage text, rating smallint, source text, tags text[], attributes jsonb,
              version bigint, created_at timestamptz, updated_at timestamptz)
    WHERE known.state IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING organization_id, candidate_id, created_at, first_name, last_name, email
)
INSERT INTO pg_temp.candidate_names
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM seeded
