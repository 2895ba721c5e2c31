-- One dead letter whole, and what the journal knows of its command.
SELECT d.lane, d.result_sequence, d.recorded_at, d.source_offset, d.error_code, d.error_detail,
       d.organization_id,
       CASE WHEN EXISTS (
           SELECT FROM redrives AS f
           WHERE f.lane = split_part(d.redrive_of, '-', 1)::integer
             AND f.result_sequence = split_part(d.redrive_of, '-', 2)::bigint)
       THEN d.redrive_of END AS redrive_of,
       octet_length(d.record) AS record_bytes, d.record, j.command_id, j.command_source, j.command_type,
       j.candidate_id
FROM dead_letters AS d
LEFT JOIN journal AS j
    ON j.lane = d.lane AND j.result_sequence = d.result_sequence AND j.kind = 'dead_letter'
WHERE d.lane = $1 AND d.result_sequence = $2
