-- Since when the journal is kept.
SELECT journal_kept_since()
