-- Who owns a lane, and how far its journal and its output have got.
SELECT owner_epoch, result_sequence, published_result_sequence, published_end_offset
FROM lanes WHERE lane = $1
