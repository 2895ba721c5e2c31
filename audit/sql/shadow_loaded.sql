-- The ranges of keys that are loaded, in their order.
SELECT first_organization_id, first_candidate_id, last_organization_id, last_candidate_id,
       candidates_total, unreadable
FROM shadow.loaded
ORDER BY first_organization_id, first_candidate_id
