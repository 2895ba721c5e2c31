-- Erasures that were lost: the ids are blocked again, and the lane's owner does the deferred part
-- again, as what it had emptied may be back.
INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, command_id,
                      command_source, actor, reason, accepted_at, looked_at, result_sequences)
SELECT n.organization_id, n.candidate_id, $1, n.result_sequence, n.version, n.command_id,
       n.command_source, n.actor, n.reason, n.accepted_at, n.accepted_at,
       (SELECT array_agg(l.result_sequence ORDER BY l.lane) FROM lanes AS l)
FROM unnest($2::uuid[], $3::uuid[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::timestamptz[])
    AS n (organization_id, candidate_id, result_sequence, version, command_id, command_source,
          actor, reason, accepted_at)
