-- The last $5 versions of candidates before result $4 of lane $3, for commands that want to merge.
INSERT INTO pg_temp.journal
SELECT j.*
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
CROSS JOIN LATERAL (
    SELECT * FROM public.journal AS j
    WHERE j.organization_id = k.organization_id AND j.candidate_id = k.candidate_id
      AND j.change_sequence IS NOT NULL AND j.lane = $3 AND j.result_sequence < $4
    ORDER BY version DESC LIMIT $5
) AS j
ON CONFLICT DO NOTHING
