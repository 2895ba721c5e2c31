-- Which fields each version in a range changed, for commands that want to merge.
SELECT k.organization_id, k.candidate_id, j.version, j.fields
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
         AS k (organization_id, candidate_id, after_version, last_version)
CROSS JOIN LATERAL (
    SELECT version, ARRAY(SELECT json_object_keys(change -> 'changed')) AS fields
    FROM journal
    WHERE organization_id = k.organization_id AND candidate_id = k.candidate_id
      AND version > k.after_version AND version <= k.last_version
      AND change_sequence IS NOT NULL AND change IS NOT NULL
    OFFSET 0) AS j
