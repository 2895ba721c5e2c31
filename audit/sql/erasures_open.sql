-- Whether an erasure has something to do, or will have.
SELECT EXISTS (
    SELECT FROM erasures WHERE completed_at IS NULL OR phase IS NOT NULL OR again > 0)
