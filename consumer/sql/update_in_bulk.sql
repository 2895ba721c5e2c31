-- The same fields of many candidates of one organization set alike, of each only if it still is at
-- the version that was decided on. Tags may differ from one to the next.
UPDATE candidates AS c
SET status = coalesce($5::text, c.status),
    pipeline_stage = CASE WHEN $6::boolean THEN $7::text ELSE c.pipeline_stage END,
    rating = CASE WHEN $8::boolean THEN $9::smallint ELSE c.rating END,
    source = CASE WHEN $10::boolean THEN $11::text ELSE c.source END,
    tags = coalesce(n.tags::text[], c.tags),
    version = c.version + 1, updated_at = $12
FROM unnest($2::text::uuid[], $3::text::bigint[], $4::text[])
    AS n (candidate_id, seen_version, tags)
WHERE c.organization_id = $1 AND c.candidate_id = n.candidate_id AND c.version = n.seen_version
