-- How these identities were settled before result $3 of lane $2.
INSERT INTO pg_temp.journal
SELECT j.* FROM public.journal AS j
WHERE j.identity = ANY ($1::uuid[]) AND j.lane = $2 AND j.result_sequence < $3
ON CONFLICT DO NOTHING
