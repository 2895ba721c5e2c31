-- The new state of candidates, each only if it still is at the version that was decided on, and
-- what they are found by, where that changed.
WITH updated AS (
    UPDATE candidates AS c
    SET first_name = n.first_name, last_name = n.last_name, email = n.email, phone = n.phone,
        status = n.status, pipeline_stage = n.pipeline_stage, rating = n.rating,
        source = n.source, tags = n.tags::text[], attributes = n.attributes::jsonb,
        version = n.version, updated_at = $14
    FROM unnest($1::text::uuid[], $2::text::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::text[], $9::text::smallint[], $10::text[], $11::text[], $12::text[],
                $13::text::bigint[], $15::text::bigint[])
        AS n (organization_id, candidate_id, first_name, last_name, email, phone, status,
              pipeline_stage, rating, source, tags, attributes, version, seen_version)
    WHERE c.organization_id = n.organization_id AND c.candidate_id = n.candidate_id
      AND c.version = n.seen_version
    RETURNING CASE WHEN old.first_name <> new.first_name OR old.last_name <> new.last_name
                       OR old.email <> new.email
                   THEN new.organization_id END AS organization_id,
              new.candidate_id, new.first_name, new.last_name, new.email),
renamed AS (
    UPDATE candidate_names AS k
    SET first_name = folded(u.first_name), last_name = folded(u.last_name),
        email = folded(u.email)
    FROM updated AS u
    WHERE k.organization_id = u.organization_id AND k.candidate_id = u.candidate_id)
SELECT FROM updated
