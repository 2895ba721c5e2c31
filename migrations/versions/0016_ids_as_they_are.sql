-- migrate:up

-- Random ids do not compress: trying to took a fifth of the time in which a filter is admitted.
ALTER TABLE bulk_operation_chunks ALTER COLUMN candidate_ids SET STORAGE EXTERNAL;

-- migrate:down

ALTER TABLE bulk_operation_chunks ALTER COLUMN candidate_ids SET STORAGE EXTENDED;
