-- A range of keys is loaded.
INSERT INTO shadow.loaded VALUES ($1, $2, $3, $4, $5, $6)
