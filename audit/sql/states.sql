-- Of a range of keys: the candidates that are not, in every field, what the journal, or the
-- checkpoint, says of the version and the instant that they name. A change of builder 1 ends with
-- its state and what its row says, in this order: where these bytes are there, and between them an
-- object that is the attributes (as a rule no longer than PostgreSQL's text of them), that is its
-- state, and it need not be parsed as a whole; no more than the `words` need to be escaped where no
-- character of theirs has to be. OFFSET 0: each step is evaluated once. LATERAL: a row of the journal
-- is looked up for each candidate, and none that is not that of a candidate is read.
WITH known AS (
    SELECT c.*, j.change, j.builder, j.actor, j.command_id, j.command_source, j.operation_id,
           j.change_sequence, p.state,
           to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_text,
           to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS updated_text
    FROM (
        SELECT * FROM candidates
        WHERE (organization_id, candidate_id) >= ($1::uuid, $2::uuid)
          AND (organization_id, candidate_id) <= ($3::uuid, $4::uuid)
        ORDER BY organization_id, candidate_id OFFSET 0) AS c
    LEFT JOIN LATERAL (
        SELECT * FROM journal AS j
        WHERE j.organization_id = c.organization_id AND j.candidate_id = c.candidate_id
          AND j.version = c.version AND j.recorded_at = c.updated_at
          AND j.change_sequence IS NOT NULL
        OFFSET 0) AS j ON true
    LEFT JOIN LATERAL (
        SELECT state FROM checkpoint_candidates AS p
        WHERE j.change IS NULL
          AND p.organization_id = c.organization_id AND p.candidate_id = c.candidate_id
          AND p.version = c.version AND p.recorded_at = c.updated_at
        OFFSET 0) AS p ON true
    OFFSET 0
), written AS (
    SELECT *, CASE WHEN builder = 1 THEN json_send(change) END AS told,
           first_name || last_name || email || coalesce(phone, '') || status
               || coalesce(pipeline_stage, '') || coalesce(source, '') || actor || command_id
               || command_source AS words,
           textsend(',"state":{"organization_id":"' || organization_id
               || '","candidate_id":"' || candidate_id
               || '","first_name":"' || first_name || '","last_name":"' || last_name
               || '","email":"' || email
               || '","phone":' || coalesce('"' || phone || '"', 'null')
               || ',"status":"' || status
               || '","pipeline_stage":' || coalesce('"' || pipeline_stage || '"', 'null')
               || ',"rating":' || coalesce(rating::text, 'null')
               || ',"source":' || coalesce('"' || source || '"', 'null')
               || ',"tags":' || to_json(tags) || ',"attributes":') AS head,
           textsend(',"version":' || version || ',"created_at":"' || created_text
               || '","updated_at":"' || updated_text || '"},"actor":"' || actor
               || '","command_id":"' || command_id || '","command_source":"' || command_source
               || '"' || coalesce(',"operation_id":"' || operation_id || '"', '')
               || ',"sequence":' || change_sequence || ',"recorded_at":"' || updated_text
               || '"}') AS tail
    FROM known
    OFFSET 0
), bounded AS (
    SELECT *, octet_length(told) - octet_length(tail) AS last,
           greatest(octet_length(told) - octet_length(tail) - octet_length(head)
                    - octet_length(attributes::text), 0) AS skipped
    FROM written
    OFFSET 0
), placed AS (
    SELECT *, nullif(position(head IN substr(told, skipped + 1)), 0) + skipped
               + octet_length(head) AS first
    FROM bounded
    OFFSET 0
), cut AS (
    SELECT *, CASE WHEN first <= last AND substr(told, last + 1) = tail
                       AND strpos(words, '"') = 0 AND strpos(words, '\') = 0
                   THEN convert_from(substr(told, first, last - first + 1), 'UTF8')
              END AS attributes_told
    FROM placed
    OFFSET 0
)
SELECT organization_id, candidate_id
FROM cut
WHERE CASE
    WHEN CASE WHEN attributes_told IS JSON OBJECT THEN attributes_told::jsonb = attributes END
    THEN false
    ELSE coalesce(change -> 'state', state)::jsonb IS DISTINCT FROM jsonb_build_object(
        'organization_id', organization_id, 'candidate_id', candidate_id,
        'first_name', first_name, 'last_name', last_name, 'email', email, 'phone', phone,
        'status', status, 'pipeline_stage', pipeline_stage, 'rating', rating, 'source', source,
        'tags', tags, 'attributes', attributes, 'version', version,
        'created_at', created_text, 'updated_at', updated_text)
    END
