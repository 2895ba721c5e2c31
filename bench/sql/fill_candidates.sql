-- The candidates of lane $1 as the last of their $3 versions left them; see fill_journal.sql.
WITH filled AS (
INSERT INTO candidates (organization_id, candidate_id, first_name, last_name, email, phone, status,
                        pipeline_stage, rating, source, tags, attributes, version, created_at,
                        updated_at)
SELECT ($5::uuid[])[i % cardinality($5::uuid[]) + 1],
       md5('candidate ' || $1::integer || ':' || i)::uuid,
       'First' || i, 'Last' || i, 'candidate' || i || '@example.com', NULL,
       (ARRAY['new', 'contacted', 'screening', 'interview', 'offer'])[($3::bigint - 1) % 5 + 1],
       'engineering.backend', $3::bigint % 6, 'bench', ARRAY['imported'],
       jsonb_build_object('number', i, 'city', 'Berlin'), $3::bigint,
       fill_instant((i / 1000)::double precision / ($4::bigint / 1000 + 1)),
       fill_instant(((($3::bigint - 1) * $2::bigint + i) / 1000)::double precision
                    / ($4::bigint / 1000 + 1))
FROM generate_series(0, $2::bigint - 1) AS i
RETURNING organization_id, candidate_id, created_at, first_name, last_name, email
)
INSERT INTO candidate_names (organization_id, candidate_id, created_at, first_name, last_name,
                             email)
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM filled
