-- The changes of organizations after a place of each, oldest first.
SELECT c.ordinal, (c.step).recorded_at, (c.step).lane, (c.step).change_sequence,
       (c.step).result_sequence, (c.step).journal_sequence, (c.step).kind,
       (c.step).source_offset, (c.step).organization_id::text, (c.step).candidate_id::text,
       (c.step).command_id, (c.step).command_source, (c.step).command_type, (c.step).actor,
       (c.step).version, (c.step).previous_version,
       convert_to((c.step).change::text, 'UTF8') AS change, (c.step).traceparent,
       (c.step).tracestate, (c.step).builder
FROM read_changes($1, $2, $3, $4) AS c
