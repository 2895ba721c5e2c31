-- Erasures that a batch accepts: the ids are blocked from now on, the rest is deferred.
INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, command_id,
                      command_source, actor, reason, accepted_at, looked_at, result_sequences)
SELECT n.organization_id, n.candidate_id, $1, n.result_sequence, n.version, n.command_id,
       n.command_source, n.actor, n.reason, $2, $2,
       (SELECT array_agg(l.result_sequence ORDER BY l.lane) FROM lanes AS l)
FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[],
            $10::text[])
    AS n (organization_id, candidate_id, result_sequence, version, command_id, command_source,
          actor, reason)
