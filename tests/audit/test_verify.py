"""Tampering with each thing that `verify` compares is found, and named without personal data."""

import asyncio
import signal
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg
import orjson
import pytest

from audit.bookmark import BookmarkRefused
from audit.database import AuditRefused
from audit.findings import LISTED_MAX
from audit.sqlfiles import statement
from audit.states import PARTS, divide_keys
from audit.verify import verify
from tests.audit.conftest import Connection, History, Verify
from tests.audit.history import ORGANIZATIONS, candidate_of

CANDIDATE = candidate_of(0, 0)
WHERE = f"candidate {ORGANIZATIONS[0]}/{CANDIDATE}"
OF_CANDIDATE = f"candidate_id = '{CANDIDATE}'"
OF_CHANGE = f"{OF_CANDIDATE} AND change_sequence IS NOT NULL"
# A journal row in the middle of a lane, with rows of its own lane before and behind it.
MIDDLE = "lane = 1 AND journal_sequence = 12"


STRAY_CHUNKS = (
    "INSERT INTO bulk_operation_chunks"
    " SELECT organization_id, operation_id, 9, ARRAY[gen_random_uuid()] FROM bulk_operations"
)


async def test_verify__real_history_with_every_outcome_is_clean(
    history: History, verify_clone: Verify, clone: Connection
) -> None:
    findings = await verify_clone(history.topics)
    assert findings.listed == []
    assert findings.rows["journal rows"] == history.rows_total
    assert findings.rows["candidates"] == await clone.fetchval("SELECT count(*) FROM candidates")
    assert findings.rows["versions"] == await clone.fetchval(
        "SELECT count(*) FROM journal WHERE change IS NOT NULL"
    )
    kinds = await clone.fetch("SELECT DISTINCT kind, outcome FROM journal")
    assert {row["kind"] for row in kinds} == {
        "command", "reroute", "dead_letter", "item", "progress", "completed",
    }  # fmt: skip
    assert findings.rows["operations"] == 2
    assert {row["outcome"] for row in kinds} - {None} == {
        "applied", "merged", "unchanged", "duplicate", "rejected", "accepted",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("first_name", "'Zoe'"),
        ("last_name", "'NG'"),
        ("email", "'z@example.org'"),
        ("phone", "'+4930901820'"),
        ("status", "'hired'"),
        ("pipeline_stage", "'sourcing'"),
        ("rating", "4"),
        ("source", "NULL"),
        ("tags", "tags || '{y}'"),
        ("attributes", """'{"m": {"deep": 1}}'"""),
        ("created_at", "created_at - interval '1 microsecond'"),
        ("updated_at", "updated_at + interval '1 microsecond'"),
        ("version", "version - 1"),
    ],
)
async def test_verify__field_of_a_candidate_changed(
    clone: Connection, verify_clone: Verify, column: str, value: str
) -> None:
    await clone.execute(f"UPDATE candidates SET {column} = {value} WHERE {OF_CANDIDATE}")
    findings = await verify_clone()
    found, *of_names = findings.listed
    assert (found.check, found.where) == ("state", f"{WHERE}, {column}")
    searched = column in ("first_name", "email", "created_at")  # a name's case does not count
    assert [each.where for each in of_names] == [f"names of {WHERE}"] * searched


async def test_verify__values_are_shown_only_when_asked_for(
    clone: Connection, verify_clone: Verify
) -> None:
    await clone.execute(f"UPDATE candidates SET last_name = 'Secret' WHERE {OF_CANDIDATE}")
    assert "Secret" not in str((await verify_clone()).listed)
    shown, _names = (await verify_clone(show_values=True)).listed
    assert (shown.expected, shown.found) == ("Ng", "Secret")


async def test_verify__candidate_without_journal(clone: Connection, verify_clone: Verify) -> None:
    await clone.execute(
        "INSERT INTO candidates SELECT (jsonb_populate_record(c, jsonb_build_object("
        f"'candidate_id', '{ORGANIZATIONS[0]}'))).* FROM candidates c WHERE {OF_CANDIDATE}"
    )
    found, _names = (await verify_clone()).listed
    assert (found.check, found.expected) == ("state", "no row")


async def test_verify__journal_without_candidate(clone: Connection, verify_clone: Verify) -> None:
    await clone.execute(f"DELETE FROM candidates WHERE {OF_CANDIDATE}")
    (found,) = (await verify_clone()).listed
    assert (found.where, found.found) == (WHERE, "no row")


async def test_verify__all_candidates_gone_are_counted_and_the_first_listed(
    clone: Connection, verify_clone: Verify
) -> None:
    await clone.execute("CREATE TABLE kept AS SELECT * FROM candidates")
    await clone.execute("DELETE FROM candidates")
    await clone.execute(  # more than can be listed: the same with other ids
        "INSERT INTO candidates SELECT (jsonb_populate_record(k, jsonb_build_object("
        "'candidate_id', gen_random_uuid()))).* FROM kept k, generate_series(1, 10)"
    )
    findings = await verify_clone()
    assert findings.total == 24 + 240 + 240  # nor has any its names
    assert len(findings.listed) == LISTED_MAX


@pytest.mark.parametrize(
    ("tampering", "check", "place"),
    [
        (f"DELETE FROM journal WHERE {MIDDLE}", "sequences", "lane 1, journal row 13"),
        (
            (
                f"INSERT INTO journal SELECT (jsonb_populate_record(j, jsonb_build_object("
                f"'result_sequence', 9999, 'identity', NULL))).* FROM journal j WHERE {MIDDLE}"
            ),
            "sequences",
            "lane 1, journal row 12",
        ),
        (
            f"UPDATE journal SET journal_sequence = 500 WHERE {MIDDLE}",
            "sequences",
            "lane 1, journal row 500",
        ),
        (
            f"UPDATE journal SET recorded_at = recorded_at - interval '1 second' WHERE {MIDDLE}",
            "sequences",
            "lane 1, journal row 12",
        ),
        (
            (
                "UPDATE journal SET change_sequence = change_sequence + 1 "
                "WHERE lane = 1 AND change_sequence = 3"
            ),
            "sequences",
            "lane 1, journal row",
        ),
        (
            "UPDATE journal SET lane = 77 WHERE lane = 1 AND journal_sequence = 12",
            "sequences",
            "lane 77",
        ),
        (
            f"UPDATE journal SET change = NULL WHERE {OF_CHANGE} AND version = 2",
            "journal",
            "lane",
        ),
        (
            f"UPDATE journal SET previous_version = 7 WHERE {OF_CHANGE} AND version = 2",
            "versions",
            "lane",
        ),
        (
            f"UPDATE journal SET version = 9 WHERE {OF_CHANGE} AND version = 2",
            "versions",
            WHERE,
        ),
        (
            f"UPDATE journal SET version = 4 WHERE {OF_CHANGE} AND version = 2",
            "versions",
            WHERE,
        ),
        (
            f"UPDATE journal SET identity = NULL WHERE {OF_CANDIDATE} AND outcome = 'merged'",
            "journal",
            "lane",
        ),
        (f"UPDATE journal SET digest = NULL WHERE {MIDDLE}", "journal", "lane 1, journal row 12"),
        (f"UPDATE journal SET outcome = 'done' WHERE {MIDDLE}", "journal", "lane 1, journal row"),
        (f"UPDATE journal SET builder = 9 WHERE {MIDDLE}", "journal", "lane 1, journal row 12"),
        *(
            (
                f"UPDATE journal SET {column} = {value} WHERE {OF_CHANGE} AND version = 3",
                "journal",
                "lane",
            )
            for column, value in (
                ("organization_id", f"'{CANDIDATE}'"),
                ("candidate_id", f"'{ORGANIZATIONS[0]}'"),
                ("actor", "'eve'"),
                ("command_id", "'another'"),
                ("command_source", "'/eve'"),
                ("operation_id", f"'{CANDIDATE}'"),
                ("kind", "'item'"),
            )
        ),
        (
            (
                f"UPDATE journal SET change = jsonb_set(change::jsonb, '{{state,rating}}', '5') "
                f"WHERE {OF_CANDIDATE} AND version = 5"
            ),
            "state",
            f"{WHERE}, rating",
        ),
        (
            f"UPDATE journal SET change = '{{}}' WHERE {OF_CANDIDATE} AND version = 5",
            "journal",
            WHERE,
        ),
        (
            (
                f'UPDATE journal SET change = \'{{"state": "\\u0000"}}\' '
                f"WHERE {OF_CANDIDATE} AND version = 5"
            ),
            "state",
            "candidates ",
        ),
    ],
)
async def test_verify__journal_tampered_with(
    clone: Connection, verify_clone: Verify, tampering: str, check: str, place: str
) -> None:
    assert (await clone.execute(tampering)).split()[-1] == "1"
    findings = await verify_clone()
    assert any(
        found.check == check and found.where.startswith(place) for found in findings.listed
    ), findings.listed


@pytest.mark.parametrize("sequence", ["journal", "result", "change"])
async def test_verify__lane_row_says_another_sequence(
    clone: Connection, verify_clone: Verify, sequence: str
) -> None:
    await clone.execute(
        f"UPDATE lanes SET {sequence}_sequence = {sequence}_sequence + 1 WHERE lane = 2"
    )
    (found,) = (await verify_clone()).listed
    assert (found.check, found.where) == ("sequences", "lane 2, its row")
    assert found.expected.startswith(f"{sequence}_sequence ")


async def test_verify__command_settled_twice(clone: Connection, verify_clone: Verify) -> None:
    await clone.execute(
        "UPDATE journal SET identity = (SELECT identity FROM journal "
        "WHERE lane = 1 AND journal_sequence = 1) WHERE lane = 1 AND journal_sequence = 5"
    )
    (found,) = (await verify_clone()).listed
    assert (found.check, found.where) == ("identities", "lane 1, result 5")
    assert "lane 1, result 1" in found.expected


async def test_verify__same_identity_behind_the_horizon_is_no_repeat(
    clone: Connection, clone_url: str
) -> None:
    await clone.execute(
        "UPDATE journal SET identity = (SELECT identity FROM journal "
        "WHERE lane = 1 AND journal_sequence = 1) WHERE lane = 1 AND journal_sequence = 5"
    )
    findings = await verify(
        clone_url, deduplication=timedelta(0), report=lambda _done, _total: None
    )
    assert findings.listed == []


async def test_verify__missing_grant_is_told_with_its_remedy(
    clone: Connection, verify_clone: Verify
) -> None:
    await clone.execute("REVOKE SELECT ON journal FROM funnel_audit")
    with pytest.raises(AuditRefused, match=r"journal.*funnel_audit.*funnel migrate up"):
        await verify_clone()


async def test_verify__auditor_can_write_nothing(clone_url: str) -> None:
    connection = await asyncpg.connect(clone_url, server_settings={"role": "funnel_audit"})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("UPDATE candidates SET rating = 1")
    await connection.close(timeout=5)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE bulk_operations SET applied = applied - 1, invalid = invalid + 1", 2),
        ("DELETE FROM bulk_operation_items WHERE outcome = 'not_found'", 1),
        ("UPDATE bulk_operation_items SET candidate_id = gen_random_uuid() WHERE ordinal = 2", 2),
        (STRAY_CHUNKS, 2),
        ("UPDATE journal SET operation_id = NULL WHERE kind = 'item'", 2),
    ],
)
async def test_verify__operation_that_its_items_contradict(
    clone: Connection, verify_clone: Verify, tampering: str, found: int
) -> None:
    await clone.execute(tampering)
    findings = await verify_clone()
    of_operations = [each for each in findings.listed if each.check == "operations"]
    assert len({each.where.partition(",")[0] for each in of_operations}) == found
    assert all(each.where.startswith(f"operation {ORGANIZATIONS[1]}/") for each in of_operations)


SMALL = ("sequences.PIECE_ROWS", "states.RANGE_ROWS", "identities.SLICE_ROWS")


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_verify__pieces_of_any_size_leave_nothing_out(
    verify_clone: Verify, history: History, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    whole = await verify_clone(jobs=1)
    for small in SMALL:
        monkeypatch.setattr(f"audit.{small}", size)
    findings = await verify_clone(jobs=3)
    assert findings.listed == []
    assert findings.rows == whole.rows
    assert findings.rows["journal rows"] == history.rows_total


async def test_divide_keys__parts_follow_one_another_from_the_first_key_to_the_last(
    clone: Connection,
) -> None:
    parts = [(int(first), int(end)) for first, end in await divide_keys(clone)]
    assert len(parts) == PARTS
    assert (parts[0][0], parts[-1][1]) == (0, 2**256)
    assert all(before[1] == behind[0] for before, behind in pairwise(parts))
    assert all(first < end for first, end in parts)
    await clone.execute("DELETE FROM candidates")
    assert await divide_keys(clone) == [("0", str(2**256))]


async def test_states__a_change_is_parsed_only_where_a_text_of_it_is_escaped(
    clone: Connection,
) -> None:
    parsed = "coalesce(change -> 'state', state)::jsonb"
    states = statement("states")
    assert states.count(parsed) == 1
    refused = states.replace(parsed, "('no JSON ' || email)::jsonb")  # as soon as it is evaluated
    rows = await clone.fetch(
        "SELECT c.organization_id, c.candidate_id, "
        "       c.first_name || j.actor ~ '[\"\\\\[:cntrl:]]' AS escaped "
        "FROM candidates AS c JOIN journal AS j USING (organization_id, candidate_id, version) "
        "WHERE j.change_sequence IS NOT NULL"
    )
    escaped = [row[:2] for row in rows if row["escaped"]]
    plain = [row[:2] for row in rows if not row["escaped"]]
    assert min(len(escaped), len(plain)) >= 8
    for key in plain:
        assert await clone.fetch(refused, *key, *key) == []
    await clone.execute("UPDATE candidates SET source = 'x' WHERE source IS NULL")
    for key in [*plain, *escaped]:
        with pytest.raises(asyncpg.DataError):
            await clone.fetch(refused, *key, *key)


@pytest.mark.parametrize("rows", [60, 420])
@pytest.mark.parametrize("jobs", [1, 2, 5])
async def test_verify__cut_short_goes_on_and_finds_the_same(
    clone: Connection,
    verify_clone: Verify,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    jobs: int,
) -> None:
    for small in SMALL:
        monkeypatch.setattr(f"audit.{small}", 7)
    await clone.execute("UPDATE candidates SET rating = 1, source = 'x'")
    await clone.execute("UPDATE journal SET digest = NULL WHERE kind = 'command'")
    whole = await verify_clone(history.topics)
    assert whole.total > LISTED_MAX

    def cut(done: int, _total: int) -> None:
        if done > rows:
            raise OSError

    bookmark = tmp_path / "data" / "verify.json"
    with pytest.raises(OSError):  # noqa: PT011  it says nothing
        await verify_clone(history.topics, bookmark=bookmark, report=cut, jobs=jobs)
    with pytest.raises(BookmarkRefused, match="other options"):
        await verify_clone(bookmark=bookmark, resume=True)
    again = await verify_clone(history.topics, bookmark=bookmark, resume=True, jobs=jobs)
    assert (again.totals, again.rows) == (whole.totals, whole.rows)
    assert not bookmark.exists()
    with pytest.raises(BookmarkRefused, match="without --resume"):
        await verify_clone(history.topics, bookmark=bookmark, resume=True)


STOPPED = """
import asyncio, sys, time
from datetime import timedelta
from pathlib import Path
import audit.bookmark, audit.identities, audit.sequences, audit.states
from audit.verify import verify

audit.bookmark.WRITE_EVERY_SECONDS = 0
audit.sequences.PIECE_ROWS = audit.states.RANGE_ROWS = audit.identities.SLICE_ROWS = 7

def stop_in_the_middle(done, _total):
    if done > 100:
        print(done, flush=True)
        time.sleep(600)

asyncio.run(verify(sys.argv[1], deduplication=timedelta(days=35), report=stop_in_the_middle,
                   bookmark=Path(sys.argv[2])))
"""


async def test_verify__killed_goes_on_and_finds_the_same(
    clone: Connection, clone_url: str, verify_clone: Verify, tmp_path: Path
) -> None:
    await clone.execute("UPDATE candidates SET rating = 1, source = 'x'")
    await clone.execute("UPDATE journal SET digest = NULL WHERE kind = 'command'")
    whole = await verify_clone()
    bookmark = tmp_path / "verify.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, clone_url, str(bookmark), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert int(await process.stdout.readline()) > 100
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    before = orjson.loads(bookmark.read_bytes())["findings"]["rows"]
    assert 0 < before["journal rows"] < whole.rows["journal rows"]
    again = await verify_clone(bookmark=bookmark, resume=True)
    assert (again.totals, again.rows) == (whole.totals, whole.rows)


@pytest.mark.parametrize("topics", [False, True])
async def test_verify__progress_rises_to_its_total_also_where_a_run_goes_on(
    verify_clone: Verify,
    history: History,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    topics: bool,
) -> None:
    for small in SMALL:
        monkeypatch.setattr(f"audit.{small}", 7)
    asked = history.topics if topics else None
    told: list[tuple[int, int]] = []

    def cut(done: int, total: int) -> None:
        told.append((done, total))
        if done > 200:
            raise OSError

    bookmark = tmp_path / "verify.json"
    with pytest.raises(OSError):  # noqa: PT011  it says nothing
        await verify_clone(asked, bookmark=bookmark, report=cut)
    reached = len(told)
    await verify_clone(
        asked, bookmark=bookmark, resume=True, report=lambda *each: told.append(each)
    )
    assert told[reached][0] > 150  # not from the beginning
    assert told[reached:] == sorted(told[reached:])
    assert {total for _, total in told} == {
        history.rows_total * (1 + topics) + history.changes_total
    }
    assert told[-1][0] == told[-1][1]
