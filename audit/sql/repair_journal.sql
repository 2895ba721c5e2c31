-- One row for each candidate that was repaired, numbered behind the lane's last.
INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
                     organization_id, candidate_id, actor, version, details, builder)
SELECT $1, $2, $3::bigint + ordinal, $4::bigint + ordinal, 'repair', $5, organization_id,
       candidate_id, $6, version, details, $7
FROM unnest($8::uuid[], $9::uuid[], $10::bigint[], $11::json[])
    WITH ORDINALITY AS r (organization_id, candidate_id, version, details, ordinal)
