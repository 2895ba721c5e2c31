-- A page of candidates in an order, and the place of each; in the last row perhaps a place only.
SELECT l.place_time, l.place_text, l.place_id::text, (l.found).organization_id::text,
       (l.found).candidate_id::text, (l.found).first_name, (l.found).last_name, (l.found).email,
       (l.found).phone, (l.found).status, (l.found).pipeline_stage, (l.found).rating,
       (l.found).source, (l.found).tags, (l.found).attributes, (l.found).version,
       (l.found).created_at, (l.found).updated_at
FROM list_candidates($1, $2, $3, $4, $5, $6, $7, $8, $9) AS l
