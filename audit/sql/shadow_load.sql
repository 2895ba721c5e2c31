-- The candidates of a range of keys as their newest change, or the checkpoint, has them.
INSERT INTO shadow.candidates
SELECT n.organization_id, n.candidate_id, s.first_name, s.last_name, s.email, s.phone, s.status,
       s.pipeline_stage, s.rating, s.source, s.tags, s.attributes, s.version, s.created_at,
       s.updated_at
FROM (
    SELECT organization_id, candidate_id, max(version) AS version
    FROM (
        (SELECT organization_id, candidate_id, version FROM journal
         WHERE change_sequence IS NOT NULL
           AND (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
           AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
         ORDER BY organization_id, candidate_id, version OFFSET 0)
        UNION ALL
        SELECT organization_id, candidate_id, version FROM checkpoint_candidates
        WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
          AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
    ) AS versions
    GROUP BY organization_id, candidate_id
) AS n
CROSS JOIN LATERAL (
    SELECT change -> 'state' AS state FROM journal AS j
    WHERE j.organization_id = n.organization_id AND j.candidate_id = n.candidate_id
      AND j.version = n.version AND j.change_sequence IS NOT NULL
    UNION ALL
    SELECT state FROM checkpoint_candidates AS p
    WHERE p.organization_id = n.organization_id AND p.candidate_id = n.candidate_id
      AND p.version = n.version
    LIMIT 1
) AS known
CROSS JOIN LATERAL json_to_record(known.state)
    AS s (first_name text, last_name text, email text, phone text, status text,
              pipeline_stage text, rating smallint, source text, tags text[], attributes jsonb,
              version bigint, created_at timestamptz, updated_at timestamptz)
WHERE known.state IS NOT NULL
