-- The versions of a candidate, newest first, after one row that tells that it is there.
SELECT (h.step).version, (h.step).previous_version, (h.step).recorded_at, (h.step).actor,
       (h.step).command_id, (h.step).command_source, (h.step).command_type,
       convert_to((h.step).change::text, 'UTF8') AS change
FROM read_history($1, $2, $3, $4) AS h
