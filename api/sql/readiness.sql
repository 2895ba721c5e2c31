-- What readiness looks at: the schema's version, the lanes there are and that there should be.
SELECT (SELECT max(version) FROM schema_migrations) AS schema_version,
       count(*) AS lanes_known, coalesce(max(partitions_total), 0) AS lanes_total
FROM lanes
