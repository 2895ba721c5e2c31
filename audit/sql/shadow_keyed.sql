-- Has the rebuilt state got its key?
SELECT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = 'shadow.candidates'::regclass AND contype = 'p')
