-- Candidates created by a batch, and what they are found by; one that is there already makes the
-- row count differ.
WITH created AS (
    INSERT INTO candidates (organization_id, candidate_id, first_name, last_name, email, phone,
                            status, pipeline_stage, rating, source, tags, attributes, version,
                            created_at, updated_at)
    SELECT n.organization_id, n.candidate_id, n.first_name, n.last_name, n.email, n.phone,
           n.status, n.pipeline_stage, n.rating, n.source, n.tags::text[], n.attributes::jsonb,
           n.version, $14, $14
    FROM unnest($1::text::uuid[], $2::text::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::text[], $9::text::smallint[], $10::text[], $11::text[], $12::text[],
                $13::text::bigint[])
        AS n (organization_id, candidate_id, first_name, last_name, email, phone, status,
              pipeline_stage, rating, source, tags, attributes, version)
    ON CONFLICT DO NOTHING
    RETURNING organization_id, candidate_id, created_at, first_name, last_name, email)
INSERT INTO candidate_names (organization_id, candidate_id, created_at, first_name, last_name,
                             email)
SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
       folded(email)
FROM created
