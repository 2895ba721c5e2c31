-- Candidates that go, each only if it still is at the version that was decided on.
DELETE FROM candidates AS c
USING unnest($1::uuid[], $2::uuid[], $3::bigint[])
    AS g (organization_id, candidate_id, seen_version)
WHERE c.organization_id = g.organization_id AND c.candidate_id = g.candidate_id
  AND c.version = g.seen_version
