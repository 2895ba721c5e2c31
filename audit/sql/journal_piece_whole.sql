-- Whether all rows of a piece follow one another and none contradicts itself, in one pass with
-- nothing kept; and if so, where the piece ends. OFFSET 0: rows are judged, and narrow, before they
-- are numbered.
SELECT count(*) AS rows_total,
       bool_and(right_alone
                AND journal_sequence = $3::bigint + row_number
                AND result_sequence = $2::bigint + closing_total - closes::integer
                    + (NOT $8::boolean)::integer
                AND recorded_at = recorded_last
                AND (change_sequence IS NULL OR change_sequence = $6::bigint + changes_total))
           AND min(recorded_at) >= $5::timestamptz AS whole,
       max(result_sequence) AS result_sequence, max(journal_sequence) AS journal_sequence,
       max(recorded_at) AS recorded_at, $6::bigint + max(changes_total) AS change_sequence,
       max(result_sequence) = $2::bigint + max(closing_total) + (NOT $8::boolean)::integer
           AS inside_unit
FROM (
    SELECT *, row_number() OVER w,
           count(*) FILTER (WHERE closes) OVER w AS closing_total,
           count(change_sequence) OVER w AS changes_total,
           max(recorded_at) OVER w AS recorded_last
    FROM (
        SELECT result_sequence, journal_sequence, recorded_at, change_sequence,
               kind <> 'item' AS closes,
               (CASE WHEN change_sequence IS NULL THEN is_no_change
                    ELSE is_change AND coalesce(previous_version, 0) + 1 = version END
                AND identity_right AND settled_right AND builder_right AND told_right) IS TRUE
                   AS right_alone
        FROM part
        ORDER BY result_sequence, journal_sequence, recorded_at
        OFFSET 0
    ) AS judged
    WINDOW w AS (ORDER BY result_sequence, journal_sequence, recorded_at
                 ROWS UNBOUNDED PRECEDING)
) AS stepped
