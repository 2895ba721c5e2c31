-- Which of these candidates were erased, so that nobody can tell what they were.
SELECT e.organization_id, e.candidate_id
FROM unnest($1::uuid[], $2::uuid[]) AS k (organization_id, candidate_id)
JOIN public.erasures AS e USING (organization_id, candidate_id)
