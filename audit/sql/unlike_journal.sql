-- Of these candidates, those whose row is not what their newest change, or the checkpoint, says:
-- that state, and the row in the same form; null where there is none.
SELECT k.organization_id, k.candidate_id, known.version, known.state, found.state AS found
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
LEFT JOIN LATERAL (
    SELECT version, state FROM (
        (SELECT version, change -> 'state' AS state FROM journal AS j
         WHERE j.organization_id = k.organization_id AND j.candidate_id = k.candidate_id
           AND j.change_sequence IS NOT NULL
         ORDER BY version DESC LIMIT 1)
        UNION ALL
        SELECT version, state FROM checkpoint_candidates AS p
        WHERE p.organization_id = k.organization_id AND p.candidate_id = k.candidate_id
    ) AS both_known
    ORDER BY version DESC LIMIT 1
) AS known ON true
LEFT JOIN LATERAL (
    SELECT jsonb_build_object(
           'organization_id', c.organization_id, 'candidate_id', c.candidate_id,
           'first_name', c.first_name, 'last_name', c.last_name, 'email', c.email,
           'phone', c.phone, 'status', c.status, 'pipeline_stage', c.pipeline_stage,
           'rating', c.rating, 'source', c.source, 'tags', c.tags, 'attributes', c.attributes,
           'version', c.version,
           'created_at', to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           'updated_at', to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS state
    FROM candidates AS c
    WHERE c.organization_id = k.organization_id AND c.candidate_id = k.candidate_id
) AS found ON true
WHERE known.state::jsonb IS DISTINCT FROM found.state
ORDER BY k.organization_id, k.candidate_id
