-- Of a piece, each row that does not follow the one before or contradicts itself, and the last of
-- all.
, stepped AS (
    SELECT *,
           lag(result_sequence, 1, $2::bigint) OVER w
               + (NOT lag(kind = 'item', 1, $8::boolean) OVER w)::integer AS result_expected,
           lag(journal_sequence, 1, $3::bigint) OVER w + 1 AS journal_expected,
           lag(recorded_at, 1, $5::timestamptz) OVER w AS recorded_before,
           lag(change_sequence, 1, $6::bigint) OVER c + 1 AS change_expected,
           lead(true, 1, false) OVER c AS followed,
           count(*) OVER () AS rows_total
    FROM part
    WINDOW w AS (ORDER BY result_sequence, journal_sequence, recorded_at),
           c AS (PARTITION BY change_sequence IS NULL
                 ORDER BY result_sequence, journal_sequence, recorded_at)
), judged AS (
    SELECT *,
           journal_sequence = journal_expected AS journal_right,
           result_sequence = result_expected AS result_right,
           recorded_at >= recorded_before AS recorded_right,
           change_sequence IS NULL OR change_sequence = change_expected AS change_right,
           CASE WHEN change_sequence IS NULL THEN is_no_change ELSE is_change END AS shape_right,
           change_sequence IS NULL
               OR (coalesce(previous_version, 0) + 1 = version) IS TRUE AS version_right
    FROM stepped
)
SELECT * FROM judged
WHERE NOT (journal_right AND result_right AND recorded_right AND change_right AND shape_right
           AND version_right AND identity_right AND settled_right AND builder_right AND told_right)
   OR NOT followed
ORDER BY result_sequence, journal_sequence, recorded_at
