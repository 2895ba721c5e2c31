-- Which topics this database belongs to, and how many partitions they have for ever.
SELECT DISTINCT commands_topic, partitions_total FROM lanes
