-- Notes that candidates that were erased are named again, so that what holds the record of it is
-- emptied, too; $3 is 2 where dead letters are to be gone through again.
UPDATE erasures AS e
SET again = n.again
FROM unnest($1::uuid[], $2::uuid[], $3::smallint[]) AS n (organization_id, candidate_id, again)
WHERE e.organization_id = n.organization_id AND e.candidate_id = n.candidate_id
    AND e.again < n.again
