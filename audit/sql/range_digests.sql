-- Of ranges of a lane's results: how many rows there are, one digest over every column of them, and
-- how many were erased and yet hold something. Built-in functions only: `record_send` gives each
-- value its type and its length, so no two rows look alike. This is format 1 of the chain.
SELECT r.last_result, d.rows_total, d.last_recorded_at, d.digest, d.unblank
FROM unnest($2::bigint[], $3::bigint[]) AS r (first_result, last_result)
CROSS JOIN LATERAL (
    SELECT count(*) AS rows_total, max(h.recorded_at) AS last_recorded_at,
           sha256(coalesce(
               string_agg(
                   h.row_digest, ''::bytea
                   ORDER BY h.result_sequence, h.journal_sequence, h.recorded_at),
               ''::bytea)) AS digest,
           count(*) FILTER (WHERE h.unblank) AS unblank
    FROM (
        SELECT j.result_sequence, j.journal_sequence, j.recorded_at,
               e.personal_digest IS NOT NULL
                   AND num_nonnulls(j.actor, j.details, j.change, j.forward) > 0 AS unblank,
               sha256(
                   record_send(ROW(
                       j.recorded_at, j.lane, j.journal_sequence, j.result_sequence,
                       j.change_sequence, j.kind, j.source_offset, j.identity, j.digest,
                       j.organization_id, j.candidate_id, j.command_id, j.command_source,
                       j.command_type, j.outcome, j.reason, j.version, j.previous_version,
                       j.traceparent, j.tracestate, j.builder, j.operation_id))
                   || coalesce(
                       e.personal_digest,
                       sha256(coalesce(uuid_send(s.salt), ''::bytea)
                           || record_send(ROW(j.actor, j.details, j.change, j.forward))))
               ) AS row_digest
        FROM journal AS j
        LEFT JOIN journal_salts AS s
            ON s.organization_id = j.organization_id AND s.candidate_id = j.candidate_id
        LEFT JOIN journal_erased_rows AS e
            ON e.lane = j.lane AND e.result_sequence = j.result_sequence
            AND e.journal_sequence = j.journal_sequence
        WHERE j.lane = $1 AND j.result_sequence >= r.first_result
            AND j.result_sequence <= r.last_result
    ) AS h
) AS d
