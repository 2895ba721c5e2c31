-- Where a lane stands, and nobody moves it until COMMIT.
SELECT owner_epoch, next_offset, journal_sequence, result_sequence FROM lanes WHERE lane = $1 FOR NO KEY UPDATE
