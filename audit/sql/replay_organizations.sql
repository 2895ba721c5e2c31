-- Every candidate that these organizations have had, for commands that filter.
SELECT DISTINCT organization_id, candidate_id FROM public.journal
WHERE organization_id = ANY ($1::uuid[]) AND change_sequence IS NOT NULL
