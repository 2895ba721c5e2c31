-- How far the changes of each lane go.
SELECT lane, partitions_total, change_sequence FROM lanes
