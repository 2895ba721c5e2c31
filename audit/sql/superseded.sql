-- Which of these versions have a later one of the same candidate: those may be compacted away.
SELECT ordinal
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) WITH ORDINALITY
    AS k (organization_id, candidate_id, version, ordinal)
WHERE EXISTS (
    SELECT FROM journal AS j
    WHERE j.organization_id = k.organization_id AND j.candidate_id = k.candidate_id
      AND j.version > k.version AND j.change_sequence IS NOT NULL
    OFFSET 0)
