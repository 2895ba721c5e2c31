"""The chain of seals finds whatever is done to a sealed row, and survives an erasure."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from audit.bookmark import Bookmark, BookmarkRefused
from audit.chain_check import Head, check_chain
from audit.database import open_audit
from audit.findings import Findings, Meter
from audit.seal import BESIDE, BUSY, QUIET, ROLE, Pace, pace_beside, seal, seal_range
from audit.sqlfiles import statement as sql
from domain.identity import home_lane
from tests.audit.conftest import Connection, Verify
from tests.audit.history import ORGANIZATIONS, candidate_of
from tests.conftest import PARTITIONS_TOTAL

CANDIDATE = candidate_of(0, 0)
HOME = home_lane(ORGANIZATIONS[0], PARTITIONS_TOTAL)
# A row in the middle of a lane that has something in every column, once `fill` is through with it.
ROW = "lane = 1 AND journal_sequence = 12"
TAMPERING = {
    "recorded_at": "recorded_at + interval '1 microsecond'",
    "lane": "2",
    "journal_sequence": "journal_sequence + 1",
    "result_sequence": "result_sequence + 1",
    "change_sequence": "coalesce(change_sequence, 0) + 1",
    "kind": "CASE kind WHEN 'command' THEN 'item' ELSE 'command' END",
    "source_offset": "source_offset + 1",
    "identity": "CASE WHEN identity IS NULL THEN gen_random_uuid() END",
    "digest": "coalesce(digest, '') || '\\x00'",
    "organization_id": "gen_random_uuid()",
    "candidate_id": "gen_random_uuid()",
    "command_id": "coalesce(command_id, '') || ' '",
    "command_source": "coalesce(command_source, '') || ' '",
    "command_type": "coalesce(command_type, '') || ' '",
    "actor": "coalesce(actor, '') || ' '",
    "outcome": "coalesce(outcome, '') || ' '",
    "reason": "coalesce(reason, '') || ' '",
    "version": "coalesce(version, 0) + 1",
    "previous_version": "coalesce(previous_version, 0) + 1",
    "details": "coalesce(details::text || ' ', '{}')::json",
    "change": "coalesce(change::text || ' ', '{}')::json",
    "forward": "coalesce(forward, '') || '\\x00'",
    "traceparent": "coalesce(traceparent, '') || ' '",
    "tracestate": "coalesce(tracestate, '') || ' '",
    "builder": "builder + 1",
    "operation_id": "CASE WHEN operation_id IS NULL THEN gen_random_uuid() END",
}


async def sealed(url: str) -> int:
    return await seal(url, report=lambda _done, _total: None)


async def chain_of(connection: Connection, *heads: Head) -> Findings:
    marks = Bookmark(None, {})
    meter = Meter(0, lambda _done, _total: None)
    await check_chain(connection, range(PARTITIONS_TOTAL), marks, meter, heads=heads)
    return marks.findings


async def tampered(clone: Connection, *statements: str, heads: Sequence[Head] = ()) -> list[str]:
    """Where the chain differs after these, which are undone again."""
    undone = clone.transaction(isolation="repeatable_read")
    await undone.start()
    try:
        for each in statements:
            assert await clone.execute(each) not in ("UPDATE 0", "DELETE 0", "INSERT 0 0"), each
        return [found.where for found in (await chain_of(clone, *heads)).listed]
    finally:
        await undone.rollback()


async def erase(connection: Connection, *, until: str = "completed") -> None:
    """Erase CANDIDATE as its lane does, in small steps."""
    await begin_erasure(connection)
    while True:
        (step,) = await connection.fetch("SELECT * FROM erase_step($1, now(), 2)", HOME)
        assert not step["idle"]
        if step[until]:
            break


async def begin_erasure(connection: Connection) -> None:
    """What a batch that accepts the erasure of CANDIDATE leaves for later."""
    await connection.execute(
        "INSERT INTO erasures (organization_id, candidate_id, lane, result_sequence, version, "
        "command_id, command_source, actor, reason, accepted_at, result_sequences, looked_at) "
        "SELECT $1, $2, $3, 0, 9, 'erase', '/test', 'ann', 'asked', now(), '{}', now()",
        ORGANIZATIONS[0], CANDIDATE, HOME,
    )  # fmt: skip


async def test_chain__every_column_of_a_sealed_row_is_covered(
    clone: Connection, clone_url: str, verify_clone: Verify
) -> None:
    rows_total = await clone.fetchval("SELECT count(*) FROM journal")
    assert await sealed(clone_url) == rows_total
    assert await sealed(clone_url) == 0
    findings = await verify_clone(chain_heads=())
    assert findings.listed == []
    assert findings.rows["sealed rows"] == rows_total

    columns = await clone.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'journal'::regclass AND attnum > 0"
    )
    assert {row["attname"] for row in columns} == set(TAMPERING)
    for column, value in TAMPERING.items():
        found = await tampered(clone, f"UPDATE journal SET {column} = {value} WHERE {ROW}")
        assert any(where.startswith("lane 1, link 1, results") for where in found), column
        assert len(found) == (2 if column == "lane" else 1)


async def sealed_in_links(clone: Connection, url: str, *lasts: int) -> list[Head]:
    """Every lane, up to each of these results in turn."""
    for results in lasts:
        await clone.execute(
            "UPDATE lanes SET published_result_sequence = 0, result_sequence = $1", results
        )
        await sealed(url)
    return [Head(*row) for row in await clone.fetch("SELECT lane, link, chain FROM journal_seals")]


async def test_chain__broken_link_is_named_with_what_was_sealed_and_what_is_there(
    clone: Connection, clone_url: str
) -> None:
    await sealed_in_links(clone, clone_url, 5, 20)
    digest = "SELECT encode(digest, 'hex') FROM journal_seals WHERE lane = 1 AND link = 2"
    sealed_digest = await clone.fetchval(digest)
    await clone.execute(f"UPDATE journal SET actor = 'eve' WHERE {ROW}")
    (changed,) = (await chain_of(clone)).listed
    assert changed.where == "lane 1, link 2, results 6 to 20"
    assert changed.expected == f"the rows that were sealed, {sealed_digest}"
    await clone.execute("DELETE FROM journal_seals WHERE lane = 1 AND link = 2")
    await sealed(clone_url)
    assert changed.found == f"other values, {await clone.fetchval(digest)}"

    chain = "SELECT encode(chain, 'hex') FROM journal_seals WHERE lane = 1 AND link = 2"
    made_up = await clone.fetchval(chain)
    await clone.execute(f"DELETE FROM journal WHERE {ROW}")
    await clone.execute("DELETE FROM journal_seals WHERE lane = 1 AND link = 1")
    missing, unlinked, fewer = [
        (each.where, each.expected, each.found)
        for each in (await chain_of(clone)).listed
        if "a range from" not in each.expected
    ]
    where = "lane 1, link 2, results 6 to 20"
    assert missing == (where, "link 1 before it", "none")
    assert (unlinked[0], unlinked[2]) == (where, made_up)
    assert fewer[0] == where
    assert int(fewer[1].split()[0]) == int(fewer[2].split()[0]) + 1


@pytest.mark.parametrize("rows_left", [100, 30])
async def test_chain__cut_short_goes_on_and_finds_the_same(
    clone: Connection,
    clone_url: str,
    verify_clone: Verify,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows_left: int,
) -> None:
    monkeypatch.setattr("audit.chain_check.PIECE_ROWS", 10)
    heads = await sealed_in_links(clone, clone_url, *range(5, 31, 5))
    heads += [Head(lane, 99, b"elsewhere") for lane in range(PARTITIONS_TOTAL)]
    await clone.execute("UPDATE journal SET actor = 'eve' WHERE journal_sequence % 9 = 0")
    reported: list[int] = []
    whole = await verify_clone(chain_heads=heads, report=lambda done, _total: reported.append(done))
    assert whole.totals["chain"] > 2 * PARTITIONS_TOTAL

    def cut(done: int, _total: int) -> None:
        if done > reported[-1] - rows_left:
            raise OSError

    bookmark = tmp_path / "verify.json"
    with pytest.raises(OSError):  # noqa: PT011  it says nothing
        await verify_clone(chain_heads=heads, bookmark=bookmark, report=cut)
    assert b'"chain":[' in bookmark.read_bytes().partition(b'"places"')[2]
    with pytest.raises(BookmarkRefused, match="other options"):
        await verify_clone(chain_heads=heads[:-1], bookmark=bookmark, resume=True)
    again = await verify_clone(chain_heads=heads, bookmark=bookmark, resume=True)
    assert (again.totals, again.rows) == (whole.totals, whole.rows)
    assert sorted(map(str, again.listed)) == sorted(map(str, whole.listed))  # walks take turns


async def test_chain__rows_and_links_removed_and_put_in_are_found(
    clone: Connection, clone_url: str
) -> None:
    heads = await sealed_in_links(clone, clone_url, 5, 20)
    copied = "INSERT INTO journal SELECT (jsonb_populate_record(j, $1)).* FROM journal AS j"
    assert len(heads) == 2 * PARTITIONS_TOTAL
    assert (await chain_of(clone, *heads)).listed == []

    tamperings = (  # where it is found, what is done
        ("link 2, results 6 to 20", f"DELETE FROM journal WHERE {ROW}"),
        ("link 2, results 6 to 20", copied.replace("$1", """'{"journal_sequence": 999}'""")
         + f" WHERE {ROW}"),
        ("result 0", copied.replace("$1", """'{"result_sequence": 0}'""") + f" WHERE {ROW}"),
        ("link 2, results 6 to 20", "DELETE FROM journal_seals WHERE lane = 1 AND link = 1"),
        ("link 2, results 6 to 20",
         "UPDATE journal_seals SET sealed_at = now() WHERE lane = 1 AND link = 2"),
        ("link 2, results 6 to 20",
         ("UPDATE journal_salts SET salt = gen_random_uuid() WHERE candidate_id IN "
         f"(SELECT candidate_id FROM journal WHERE {ROW})")),
    )  # fmt: skip
    for expected, statement in tamperings:
        assert f"lane 1, {expected}" in await tampered(clone, statement), statement

    # The newest link removed leaves a chain that is whole in itself: a head kept elsewhere tells.
    removed = "DELETE FROM journal_seals WHERE lane = 1 AND link = 2"
    assert await tampered(clone, removed) == []
    assert await tampered(clone, removed, heads=heads) == ["lane 1, link 2"]
    # So does everything hashed anew after a change.
    await clone.execute("DELETE FROM journal_seals WHERE lane = 1")
    await clone.execute(f"UPDATE journal SET actor = 'eve' WHERE {ROW}")
    await sealed(clone_url)
    assert (await chain_of(clone)).listed == []
    assert {found.where for found in (await chain_of(clone, *heads)).listed} == {
        "lane 1, link 1, results 1 to 20", "lane 1, link 2",
    }  # fmt: skip


async def test_chain__verifies_during_and_after_an_erasure_and_finds_what_comes_back(
    clone: Connection, clone_url: str
) -> None:
    erased = f"candidate_id = '{CANDIDATE}'"
    sealed_rows = await clone.fetchval(f"SELECT count(*) FROM journal WHERE {erased}")
    await sealed(clone_url)
    undone = clone.transaction(isolation="repeatable_read")
    await undone.start()
    await erase(clone, until="journal_rows")
    assert (await chain_of(clone)).listed == []
    await undone.rollback()
    await erase(clone)
    assert (await chain_of(clone)).listed == []
    assert await clone.fetchval("SELECT count(*) FROM journal_erased_rows") == sealed_rows
    assert await clone.fetchval(f"SELECT count(*) FROM journal_salts WHERE {erased}") == 0
    assert await clone.fetchval("SELECT forget_salt($1, $2)", ORGANIZATIONS[0], CANDIDATE) == 0
    for statement in (
        f"UPDATE journal SET actor = 'eve' WHERE {erased} AND version = 2",
        f"UPDATE journal SET details = '{{}}' WHERE {erased} AND version = 2",
        f"UPDATE journal SET outcome = 'merged' WHERE {erased} AND version = 2",
        f"DELETE FROM journal_erased_rows WHERE lane = {HOME} AND journal_sequence % 2 = 0",
        "UPDATE erasures SET candidate_id = gen_random_uuid()",
    ):
        assert await tampered(clone, statement), statement


async def test_chain__verifies_whatever_is_sealed_between_the_steps_of_an_erasure(
    clone: Connection, clone_url: str
) -> None:
    """Row by row: sealed before, between, and after they are emptied; nothing needs the salt."""
    lanes = await clone.fetch("SELECT lane, result_sequence FROM lanes ORDER BY lane")
    await clone.execute("UPDATE lanes SET published_result_sequence = 0, result_sequence = 4")
    await sealed(clone_url)
    await clone.executemany(
        "UPDATE lanes SET result_sequence = $2, published_result_sequence = $2 WHERE lane = $1",
        [tuple(lane) for lane in lanes],
    )
    await begin_erasure(clone)
    links, steps, completed = await clone.fetchval("SELECT count(*) FROM journal_seals"), 0, False
    while not completed:
        step = await clone.fetchrow("SELECT * FROM erase_step($1, now(), 1)", HOME)
        assert step is not None
        completed, steps = step["completed"], steps + 1
        if steps == 3:
            await sealed(clone_url)
        assert (await chain_of(clone)).listed == []
    of_candidate = f"candidate_id = '{CANDIDATE}'"
    assert steps > await clone.fetchval(f"SELECT count(*) FROM journal WHERE {of_candidate}")
    assert await clone.fetchval("SELECT count(*) FROM journal_seals") > links
    assert await clone.fetchval(f"SELECT count(*) FROM journal_salts WHERE {of_candidate}") == 0
    held = "num_nonnulls(actor, change, forward)"
    assert await clone.fetchval(f"SELECT sum({held}) FROM journal WHERE {of_candidate}") == 0


@pytest.mark.parametrize(
    ("rows_per_second", "pace"),
    [(0, QUIET), (1.9, QUIET), (2, BESIDE), (50, BESIDE), (999, BESIDE), (1000, BUSY)],
)
def test_pace__leaves_room_for_the_commands_that_come(rows_per_second: float, pace: Pace) -> None:
    assert pace_beside(rows_per_second) == pace


async def test_sealer__in_small_pieces_makes_a_chain_of_the_same_rows(
    clone: Connection, clone_url: str
) -> None:
    async with open_audit(clone_url, role=ROLE, transaction_seconds_max=10) as sealer:
        for lane in range(PARTITIONS_TOTAL):
            while (await seal_range(sealer, lane, rows_max=4)).rows_total:
                pass

    assert await sealed(clone_url) == 0
    rows_total = await clone.fetchval("SELECT count(*) FROM journal")
    links = [row[0] for row in await clone.fetch("SELECT rows_total FROM journal_seals")]
    assert sum(links) == rows_total
    assert len(links) > rows_total / 8  # a unit is not cut, so some have more than four
    assert (await chain_of(clone)).listed == []


async def test_sealer__that_stalls_lets_go_and_an_erasure_is_not_kept_by_it(
    clone: Connection, clone_url: str
) -> None:
    async def stepped() -> tuple[bool, bool]:
        step = await clone.fetchrow("SELECT * FROM erase_step($1, now(), 500)", HOME)
        assert step is not None
        return step["busy"], step["completed"]

    await begin_erasure(clone)
    async with open_audit(clone_url, role=ROLE, transaction_seconds_max=2) as sealer:
        await sealer.execute("BEGIN")
        assert await sealer.fetchval(sql("seal_locks"), HOME)
        assert await stepped() == (True, False)
        with pytest.raises(asyncpg.PostgresConnectionError, match="transaction timeout"):
            await sealer.execute("SELECT pg_sleep(60)")
        assert await stepped() == (False, True)


async def test_grants__only_named_roles_touch_the_chain_and_none_the_journal(
    clone: Connection,
) -> None:
    """Append-only for everyone: links and salts are added by sealers, and changed by nobody."""
    roles = [
        row[0]
        for row in await clone.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'funnel_%' AND NOT rolcanlogin"
        )
    ]
    assert {"funnel_sealer", "funnel_retention"} <= set(roles)
    tables = ("journal", "journal_seals", "journal_erased_rows", "journal_salts")
    held = await clone.fetch(
        "SELECT grantee, table_name, privilege_type FROM information_schema.role_table_grants "
        "WHERE privilege_type NOT IN ('SELECT') AND grantee = ANY($1::text[]) "
        "AND (table_name = ANY($2::text[]) OR table_name LIKE 'journal_2%')",
        roles, tables,
    )  # fmt: skip
    added = {
        (row["grantee"], row["table_name"])
        for row in held
        if row["privilege_type"] == "INSERT" and not row["table_name"].startswith("journal_2")
    }
    assert {row["privilege_type"] for row in held} == {"INSERT"}
    assert added - {("funnel_eraser", "journal_erased_rows")} == {
        ("funnel_repair", "journal"),
        ("funnel_sealer", "journal_seals"),
        ("funnel_sealer", "journal_salts"),
        ("funnel_retention", "journal_seals"),
    }
    assert {
        tuple(row)
        for row in await clone.fetch(
            "SELECT grantee, column_name FROM information_schema.role_column_grants "
            "WHERE table_name = 'journal' AND privilege_type = 'UPDATE' AND grantee = ANY($1)",
            roles,
        )
    } <= {("funnel_eraser", name) for name in ("actor", "change", "details", "forward")}
    for role in roles:
        await clone.execute(f"SET ROLE {role}")
        for statement in (
            "DROP TABLE journal",
            "UPDATE journal SET lane = 1",
            "DELETE FROM journal",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await clone.execute(statement)
        await clone.execute("RESET ROLE")
