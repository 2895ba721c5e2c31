-- Where a redriven record is now.
UPDATE redrives SET sent_lane = $2, sent_offset = $3 WHERE redrive_id = $1
