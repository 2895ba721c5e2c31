-- Changes $2 to $3 of lane $1, each followed by $6 - 1 results that changed nothing; the lane has
-- $4 candidates of the organizations $7 and $5 changes in all.
INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, change_sequence, kind,
                     source_offset, identity, digest, organization_id, candidate_id, command_id,
                     command_source, command_type, actor, outcome, version, previous_version,
                     change, builder)
SELECT c.recorded_at, $1, s.sequence, s.sequence, CASE WHEN s.changes THEN n + 1 END, 'command',
       s.sequence - 1, overlay(md5($1 || ':' || s.sequence) PLACING c.recorded_digits FROM 1)::uuid,
       decode(md5('digest' || s.sequence), 'hex'), c.organization_id, c.candidate_id,
       'fill-' || $1 || '-' || s.sequence, '/gulf-funnel/bench',
       CASE WHEN s.changes AND c.version = 1 THEN 'candidate.create.v1'
            ELSE 'candidate.update.v1' END,
       'bench', CASE WHEN s.changes THEN 'applied' ELSE 'unchanged' END, c.version,
       CASE WHEN s.changes THEN nullif(c.version - 1, 0) ELSE c.version END,
       CASE WHEN s.changes THEN (
           '{"organization_id":"' || c.organization_id || '","candidate_id":"' || c.candidate_id
           || '","version":' || c.version
           || ',"previous_version":' || coalesce(nullif(c.version - 1, 0)::text, 'null')
           || ',"changed":{' || CASE WHEN c.version = 1 THEN
               '"first_name":{"from":null,"to":"First' || c.i || '"},"last_name":{"from":null,"to":"Last'
               || c.i || '"},"email":{"from":null,"to":"candidate' || c.i || '@example.com"},'
               || '"status":{"from":null,"to":"' || c.status || '"},'
               || '"pipeline_stage":{"from":null,"to":"engineering.backend"},"rating":{"from":null,"to":'
               || c.rating || '},"source":{"from":null,"to":"bench"},'
               || '"tags":{"from":null,"to":["imported"]},"attributes":{"from":null,"to":{"number":'
               || c.i || ',"city":"Berlin"}}'
           ELSE '"status":{"from":"' || c.status_before || '","to":"' || c.status
               || '"},"rating":{"from":' || c.rating_before || ',"to":' || c.rating || '}'
           END || '},"state":{"organization_id":"' || c.organization_id || '","candidate_id":"'
           || c.candidate_id || '","first_name":"First' || c.i || '","last_name":"Last' || c.i
           || '","email":"candidate' || c.i || '@example.com","phone":null,"status":"' || c.status
           || '","pipeline_stage":"engineering.backend","rating":' || c.rating
           || ',"source":"bench","tags":["imported"],"attributes":{"number":' || c.i
           || ',"city":"Berlin"},"version":' || c.version || ',"created_at":"'
           || to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
           || '","updated_at":"' || c.recorded_text || '"},"actor":"bench","command_id":"fill-' || $1
           || '-' || s.sequence || '","command_source":"/gulf-funnel/bench","sequence":' || n + 1
           || ',"recorded_at":"' || c.recorded_text || '"}')::json END,
       1
FROM generate_series($2::bigint, $3::bigint - 1) AS n
CROSS JOIN LATERAL (SELECT n % $4::bigint AS i, n / $4::bigint + 1 AS version) AS v
CROSS JOIN LATERAL (
    SELECT i, v.version,
           ($7::uuid[])[i % cardinality($7::uuid[]) + 1] AS organization_id,
           md5('candidate ' || $1::integer || ':' || i)::uuid AS candidate_id,
           (ARRAY['new', 'contacted', 'screening', 'interview', 'offer'])[(v.version - 1) % 5 + 1]
               AS status,
           (ARRAY['new', 'contacted', 'screening', 'interview', 'offer'])[(v.version + 3) % 5 + 1]
               AS status_before,
           v.version % 6 AS rating, (v.version - 1) % 6 AS rating_before,
           fill_instant((n / 1000)::double precision / ($5::bigint / 1000 + 1)) AS recorded_at,
           fill_instant((i / 1000)::double precision / ($5::bigint / 1000 + 1)) AS created_at
    OFFSET 0
) AS w
CROSS JOIN LATERAL (
    SELECT w.*,
           to_char(w.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
               AS recorded_text,
           lpad(to_hex((extract(epoch FROM w.recorded_at) * 1000)::bigint), 12, '0')
               AS recorded_digits  -- how the identity of a UUIDv7 begins
    OFFSET 0
) AS c
CROSS JOIN LATERAL (
    SELECT n * $6::integer + k AS sequence, k = 1 AS changes
    FROM generate_series(1, $6::integer) AS k
) AS s
