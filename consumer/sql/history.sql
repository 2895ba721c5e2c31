-- Which fields each version in a range changed, for commands that want to merge.
SELECT j.organization_id, j.candidate_id, j.version,
       ARRAY(SELECT json_object_keys(j.change -> 'changed')) AS fields
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
         AS k (organization_id, candidate_id, after_version, last_version)
JOIN journal AS j USING (organization_id, candidate_id)
WHERE j.change_sequence IS NOT NULL AND j.change IS NOT NULL
  AND j.version > k.after_version AND j.version <= k.last_version
