-- For each command asked for, in order: its journal row if it has ended, and where its lane stands.
SELECT lane.next_offset, (e.ended).recorded_at, (e.ended).lane, (e.ended).journal_sequence,
       (e.ended).result_sequence, (e.ended).change_sequence, (e.ended).kind,
       (e.ended).source_offset, (e.ended).organization_id::text,
       (e.ended).candidate_id::text, (e.ended).command_id, (e.ended).command_source,
       (e.ended).command_type, (e.ended).actor, (e.ended).outcome, (e.ended).reason,
       (e.ended).version, (e.ended).previous_version, (e.ended).digest,
       convert_to((e.ended).details::text, 'UTF8') AS details,
       convert_to((e.ended).change::text, 'UTF8') AS change, (e.ended).traceparent,
       (e.ended).tracestate, (e.ended).builder, (e.ended).operation_id::text
FROM unnest($5::integer[]) WITH ORDINALITY AS asked (lane, ordinal)
LEFT JOIN lanes AS lane ON lane.lane = asked.lane
LEFT JOIN read_commands($1, $2, $3, $4, $5, $6) AS e ON e.ordinal = asked.ordinal
ORDER BY asked.ordinal
