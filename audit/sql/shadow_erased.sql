-- Candidates that were erased since their range was loaded.
DELETE FROM shadow.candidates AS r USING erasures AS e
WHERE r.organization_id = e.organization_id AND r.candidate_id = e.candidate_id
