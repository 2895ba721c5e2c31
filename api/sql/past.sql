-- One candidate as it is, and as it was where the journal must tell.
SELECT (p.present).organization_id::text, (p.present).candidate_id::text, (p.present).first_name,
       (p.present).last_name, (p.present).email, (p.present).phone, (p.present).status,
       (p.present).pipeline_stage, (p.present).rating, (p.present).source, (p.present).tags,
       (p.present).attributes, (p.present).version, (p.present).created_at,
       (p.present).updated_at, convert_to(p.past::text, 'UTF8') AS past, p.begins
FROM read_past($1, $2, $3, $4) AS p
