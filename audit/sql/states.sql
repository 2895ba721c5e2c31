-- Of a range of keys: the candidates that are not, in every field, what the journal, or the
-- checkpoint, says of the version and the instant that they name.
SELECT c.organization_id, c.candidate_id
FROM candidates AS c
LEFT JOIN journal AS j
    ON j.organization_id = c.organization_id AND j.candidate_id = c.candidate_id
    AND j.version = c.version AND j.recorded_at = c.updated_at AND j.change_sequence IS NOT NULL
LEFT JOIN checkpoint_candidates AS p
    ON p.organization_id = c.organization_id AND p.candidate_id = c.candidate_id
    AND p.version = c.version AND p.recorded_at = c.updated_at
WHERE (c.organization_id, c.candidate_id) >= ($1::uuid, $2::uuid)
  AND (c.organization_id, c.candidate_id) <= ($3::uuid, $4::uuid)
  AND coalesce(j.change -> 'state', p.state)::jsonb IS DISTINCT FROM jsonb_build_object(
      'organization_id', c.organization_id, 'candidate_id', c.candidate_id,
      'first_name', c.first_name, 'last_name', c.last_name, 'email', c.email, 'phone', c.phone,
      'status', c.status, 'pipeline_stage', c.pipeline_stage, 'rating', c.rating,
      'source', c.source, 'tags', c.tags, 'attributes', c.attributes, 'version', c.version,
      'created_at', to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'updated_at', to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
