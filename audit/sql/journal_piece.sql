-- The next $7 journal rows of lane $1 behind a row ($2 to $5; $6 is the last change before it, $8
-- says whether that row was one of several of its unit, with more to come), each judged by itself.
-- A change of builder 1 begins and ends with what its row says, in this order: compared as bytes,
-- since parsing it costs ten times as much; and first as if no character had to be escaped, since
-- to_json costs as much as all the rest. `usual`: as most rows are. Goes before the two other halves
-- of the statement.
WITH part AS (
    SELECT result_sequence, journal_sequence, recorded_at, change_sequence, version,
           previous_version, kind,
           organization_id IS NOT NULL AND candidate_id IS NOT NULL AND version IS NOT NULL
               AND (change IS NOT NULL OR EXISTS (
                   SELECT FROM erasures AS e
                   WHERE e.organization_id = r.organization_id AND e.candidate_id = r.candidate_id
                     AND e.version >= r.version)) AS is_change,
           change IS NULL AND (operation_id IS NOT NULL
               OR (outcome IN ('applied', 'merged')) IS NOT TRUE) AS is_no_change,
           usual OR (identity IS NOT NULL) = (kind = 'command' AND outcome <> 'duplicate'
               AND coalesce(reason, '') NOT IN ('id_reused', 'too_old')) IS TRUE AS identity_right,
           usual OR kind <> 'command' OR (octet_length(digest) = 16 AND outcome IN
               ('applied', 'merged', 'unchanged', 'accepted', 'duplicate', 'rejected')
               AND (outcome <> 'rejected' OR reason IS NOT NULL)) IS TRUE AS settled_right,
           builder BETWEEN 1 AND $9 AS builder_right,
           change IS NULL OR builder <> 1 OR (
               substr(change, 1, octet_length(head)) = head
               AND (substr(change, octet_length(change) - octet_length(tail) + 1) = tail
                        AND strpos(words, '"') = 0 AND strpos(words, '\') = 0
                    OR (SELECT substr(change, octet_length(change) - octet_length(escaped) + 1)
                               = escaped
                        FROM (SELECT textsend(',"actor":' || to_json(actor)
                                  || ',"command_id":' || to_json(command_id)
                                  || ',"command_source":' || to_json(command_source))
                              || substr(tail, 1 + octet_length(
                                  ',"actor":"","command_id":"","command_source":""' || words))
                                  AS escaped OFFSET 0) AS e))
           ) IS TRUE AS told_right
    FROM (
        SELECT result_sequence, journal_sequence, recorded_at, change_sequence, version,
               previous_version, kind, organization_id, candidate_id, operation_id, identity,
               digest, outcome, reason, builder, actor, command_id, command_source,
               (kind = 'command' AND outcome = 'applied' AND reason IS NULL
                   AND identity IS NOT NULL AND octet_length(digest) = 16) IS TRUE AS usual,
               json_send(change) AS change, actor || command_id || command_source AS words,
               textsend('{"organization_id":"' || organization_id
                   || '","candidate_id":"' || candidate_id || '","version":' || version
                   || ',"previous_version":' || coalesce(previous_version::text, 'null')
                   || ',"changed":{') AS head,
               textsend(',"actor":"' || actor || '","command_id":"' || command_id
                   || '","command_source":"' || command_source || '"'
                   || coalesce(',"operation_id":"' || operation_id || '"', '')
                   || ',"sequence":' || change_sequence || ',"recorded_at":"'
                   || to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                   || '"}') AS tail
        FROM journal
        WHERE lane = $1
          AND (result_sequence, journal_sequence, recorded_at) > ($2::bigint, $3::bigint, $4)
        ORDER BY result_sequence, journal_sequence, recorded_at
        LIMIT $7
    ) AS r
)
