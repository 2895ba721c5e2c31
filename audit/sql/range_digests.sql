-- Of ranges of a lane's results: how many rows there are, one digest over every column of them; how
-- many were erased and yet hold something, and how many without the proof of an erasure. What may be
-- personal goes in by its salted digest: see `journal_personal_digest` in schema.sql, of which this
-- is a copy in built-in functions only. `record_send` gives each value its type and its length, so
-- no two rows look alike. This is format 1 of the chain. LATERAL and OFFSET 0: salts are looked up,
-- however many candidates have one.
SELECT r.last_result, d.rows_total, d.last_recorded_at, d.digest, d.unblank, d.unproven
FROM unnest($2::bigint[], $3::bigint[]) AS r (first_result, last_result)
CROSS JOIN LATERAL (
    SELECT count(*) AS rows_total, max(h.recorded_at) AS last_recorded_at,
           sha256(coalesce(
               string_agg(
                   h.row_digest, ''::bytea
                   ORDER BY h.result_sequence, h.journal_sequence, h.recorded_at),
               ''::bytea)) AS digest,
           count(*) FILTER (WHERE h.unblank) AS unblank,
           count(*) FILTER (WHERE h.unproven) AS unproven
    FROM (
        SELECT j.result_sequence, j.journal_sequence, j.recorded_at,
               CASE WHEN e.personal_digest IS NULL THEN false
                    WHEN j.named THEN x.completed_at IS NOT NULL AND (
                        num_nonnulls(j.actor, j.change, j.forward) > 0
                        OR j.telling AND j.details::text IS DISTINCT FROM '{"erased":true}')
                    ELSE (j.details -> 'erased') IS NULL
               END AS unblank,
               e.personal_digest IS NOT NULL AND j.named AND x.candidate_id IS NULL AS unproven,
               sha256(
                   record_send(ROW(
                       j.recorded_at, j.lane, j.journal_sequence, j.result_sequence,
                       j.change_sequence, j.kind, j.source_offset, j.identity, j.digest,
                       j.organization_id, j.candidate_id, j.command_id, j.command_source,
                       j.command_type, j.outcome, j.reason, j.version, j.previous_version,
                       j.traceparent, j.tracestate, j.builder, j.operation_id,
                       CASE WHEN NOT j.named THEN j.actor END,
                       CASE WHEN NOT j.telling THEN j.details END,
                       CASE WHEN NOT j.named THEN j.change END,
                       CASE WHEN NOT j.named THEN j.forward END))
                   || coalesce(
                       e.personal_digest,
                       sha256(coalesce(uuid_send(s.salt), ''::bytea) || record_send(ROW(
                           CASE WHEN j.named THEN j.actor END,
                           CASE WHEN j.telling THEN j.details END,
                           CASE WHEN j.named THEN j.change END,
                           CASE WHEN j.named THEN j.forward END))))
               ) AS row_digest
        FROM (
            SELECT *, candidate_id IS NOT NULL AS named,
                   CASE WHEN candidate_id IS NOT NULL THEN coalesce(reason = 'invalid', false)
                        ELSE coalesce(operation_id IS NOT NULL AND outcome = 'unchanged', false)
                   END AS telling
            FROM journal
        ) AS j
        LEFT JOIN LATERAL (
            SELECT salt FROM journal_salts AS s
            WHERE s.organization_id = j.organization_id AND s.candidate_id = j.candidate_id
            OFFSET 0) AS s ON true
        LEFT JOIN LATERAL (
            SELECT personal_digest FROM journal_erased_rows AS e
            WHERE e.lane = j.lane AND e.result_sequence = j.result_sequence
                AND e.journal_sequence = j.journal_sequence
            OFFSET 0) AS e ON true
        LEFT JOIN LATERAL (
            SELECT candidate_id, completed_at FROM erasures AS x
            WHERE e.personal_digest IS NOT NULL AND x.organization_id = j.organization_id
                AND x.candidate_id = j.candidate_id
            OFFSET 0) AS x ON true
        WHERE j.lane = $1 AND j.result_sequence >= r.first_result
            AND j.result_sequence <= r.last_result
    ) AS h
) AS d
