-- One candidate as the table has it, in the form of its state in the journal.
SELECT jsonb_build_object(
    'organization_id', organization_id, 'candidate_id', candidate_id,
    'first_name', first_name, 'last_name', last_name, 'email', email, 'phone', phone,
    'status', status, 'pipeline_stage', pipeline_stage, 'rating', rating, 'source', source,
    'tags', tags, 'attributes', attributes, 'version', version,
    'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'updated_at', to_char(updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
FROM candidates
WHERE organization_id = $1 AND candidate_id = $2
