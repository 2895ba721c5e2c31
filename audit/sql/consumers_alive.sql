-- How many consumers hold a lease: what is unpublished is still on its way.
SELECT count(*) FROM consumers WHERE lease_until > clock_timestamp()
