-- The next $7 journal rows of lane $1 behind a row ($2 to $5; $6 is the last change before it, $8
-- says whether that row was one of several of its unit, with more to come): each that does not
-- follow the one before or contradicts itself, and the last of all. A change of builder 1 begins and
-- ends with what its row says, in this order: compared as text, since parsing it costs ten times as
-- much.
WITH part AS (
    SELECT result_sequence, journal_sequence, recorded_at, change_sequence, version,
           previous_version, kind,
           organization_id IS NOT NULL AND candidate_id IS NOT NULL AND version IS NOT NULL
               AND (change IS NOT NULL OR EXISTS (
                   SELECT FROM erasures AS e
                   WHERE e.organization_id = journal.organization_id
                     AND e.candidate_id = journal.candidate_id
                     AND e.version >= journal.version)) AS is_change,
           change IS NULL AND (operation_id IS NOT NULL
               OR (outcome IN ('applied', 'merged')) IS NOT TRUE) AS is_no_change,
           (identity IS NOT NULL) = (kind = 'command' AND outcome <> 'duplicate'
               AND coalesce(reason, '') NOT IN ('id_reused', 'too_old')) IS TRUE
               AS identity_right,
           kind <> 'command' OR (octet_length(digest) = 16 AND outcome IN
               ('applied', 'merged', 'unchanged', 'accepted', 'duplicate', 'rejected')
               AND (outcome <> 'rejected' OR reason IS NOT NULL)) IS TRUE AS settled_right,
           builder BETWEEN 1 AND $9 AS builder_right,
           change IS NULL OR builder <> 1 OR (
               starts_with(change::text,
                   '{"organization_id":"' || organization_id
                   || '","candidate_id":"' || candidate_id || '","version":' || version
                   || ',"previous_version":' || coalesce(previous_version::text, 'null')
                   || ',"changed":{')
               AND change::text LIKE '%' || replace(replace(
                   ',"actor":' || to_json(actor) || ',"command_id":' || to_json(command_id)
                   || ',"command_source":' || to_json(command_source)
                   || coalesce(',"operation_id":"' || operation_id || '"', '')
                   || ',"sequence":' || change_sequence || ',"recorded_at":"'
                   || to_char(recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                   || '"}', '\', '\\'), '%', '\%')) IS TRUE AS told_right
    FROM journal
    WHERE lane = $1
      AND (result_sequence, journal_sequence, recorded_at) > ($2::bigint, $3::bigint, $4)
    ORDER BY result_sequence, journal_sequence, recorded_at
    LIMIT $7
), stepped AS (
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
