-- The same fields of many candidates of one organization set alike, of each only if it still stands
-- where it was seen, at the version that was decided on. Tags may differ from one to the next.
UPDATE candidates AS c
SET status = coalesce($6::text, c.status),
    pipeline_stage = CASE WHEN $7::boolean THEN $8::text ELSE c.pipeline_stage END,
    rating = CASE WHEN $9::boolean THEN $10::smallint ELSE c.rating END,
    source = CASE WHEN $11::boolean THEN $12::text ELSE c.source END,
    tags = coalesce(n.tags::text[], c.tags),
    version = c.version + 1, updated_at = $13
FROM unnest($2::text::uuid[], $3::text::tid[], $4::text::bigint[], $5::text[])
    AS n (candidate_id, seen_at, seen_version, tags)
WHERE c.ctid = n.seen_at AND c.organization_id = $1 AND c.candidate_id = n.candidate_id
  AND c.version = n.seen_version
