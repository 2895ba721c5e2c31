"""The oldest month goes when it may and only then, and what remains still tells the state."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from audit.export_file import verify_export
from audit.findings import Findings
from audit.retention import RetentionRefused, archive, drop, partitions
from audit.seal import seal
from contract.events import OutputRecord
from contract.journal import timestamp_text
from contract.topics import Topics
from tests.audit.conftest import Connection, Verify
from tests.audit.test_chain import CANDIDATE, chain_of, erase
from tests.audit.test_outputs import Publish, producer, publish, write
from tests.conftest import PARTITIONS_TOTAL

__all__ = ["producer", "publish"]

AGO = timedelta(days=200)
HORIZON = timedelta(days=35)

Drop = Callable[..., Coroutine[Any, Any, None]]


def silent(_done: int, _total: int) -> None:
    return


FIRST_HALF = "l.result_sequence / 2"
UP_TO_A_BULK = f"""
coalesce((SELECT min(i.result_sequence) FROM journal AS i
          WHERE i.lane = l.lane AND i.kind = 'item'), {FIRST_HALF})
"""


@pytest.fixture
async def month(request: pytest.FixtureRequest, clone: Connection) -> str:
    """The first part of each lane, moved to a month long ago, as if it had been settled then."""
    last = getattr(request, "param", FIRST_HALF)
    first = (await clone.fetchval("SELECT min(recorded_at) FROM journal") - AGO).replace(day=1)
    name = f"journal_{first:%Y_%m}"
    await clone.execute(f"CREATE TABLE {name} (LIKE journal INCLUDING CONSTRAINTS)")
    await clone.execute(
        f"ALTER TABLE journal ATTACH PARTITION {name} FOR VALUES FROM "
        f"('{first:%Y-%m}-01 00:00+00') TO ('{first + timedelta(days=31):%Y-%m}-01 00:00+00')"
    )
    await clone.execute(
        "UPDATE journal AS j SET recorded_at = recorded_at - $1::interval FROM lanes AS l "
        f"WHERE l.lane = j.lane AND j.result_sequence <= {last}",
        AGO,
    )
    created: dict[str, str] = {}
    for row in await clone.fetch(
        "SELECT lane, journal_sequence, recorded_at, change::text FROM journal "
        "WHERE change IS NOT NULL ORDER BY lane, journal_sequence"
    ):
        change = orjson.loads(row["change"])
        instant = timestamp_text(row["recorded_at"])
        change["recorded_at"] = change["state"]["updated_at"] = instant
        first_instant = created.setdefault(change["candidate_id"], instant)
        change["state"]["created_at"] = first_instant
        await clone.execute(
            "UPDATE journal SET change = $3::text::json WHERE lane = $1 AND journal_sequence = $2",
            row["lane"], row["journal_sequence"], orjson.dumps(change).decode(),
        )  # fmt: skip
        await clone.execute(
            "UPDATE candidates SET created_at = $2::text::timestamptz, updated_at = $3 "
            "WHERE candidate_id = $1::text::uuid",
            change["candidate_id"], first_instant, row["recorded_at"],
        )  # fmt: skip
    await clone.execute(
        "UPDATE candidate_names AS n SET created_at = c.created_at FROM candidates AS c "
        "WHERE c.organization_id = n.organization_id AND c.candidate_id = n.candidate_id"
    )
    return name


@pytest.fixture
def dropping(clone_url: str, month: str) -> Drop:
    async def run(partition: str = month, **options: Any) -> None:
        asked: dict[str, Any] = {"horizon": HORIZON, "archive_needed": False, "report": silent}
        await drop(clone_url, partition, **(asked | options))

    return run


async def rebuilt(connection: Connection) -> dict[str, Any]:
    """The state of each candidate from the checkpoint and the journal: recomputed here."""
    states: dict[str, Any] = {}
    for row in await connection.fetch(
        "SELECT candidate_id, state FROM checkpoint_candidates WHERE state IS NOT NULL"
    ):
        states[str(row[0])] = orjson.loads(row[1])
    for row in await connection.fetch(
        "SELECT candidate_id, change FROM journal WHERE change IS NOT NULL "
        "ORDER BY lane, journal_sequence"
    ):
        change = orjson.loads(row[1])
        before = states.get(str(row[0]), {}).get("version")
        assert change["previous_version"] == before
        states[str(row[0])] = change["state"]
    return states


async def chain_findings(verify_clone: Verify) -> list[str]:
    findings: Findings = await verify_clone(chain_heads=())
    return [str(each) for each in findings.listed if each.check == "chain"]


async def test_drop__refused_until_all_of_the_month_may_go(
    clone: Connection, clone_url: str, month: str, dropping: Drop, tmp_path: Path
) -> None:
    async def hindrances() -> str:
        oldest, *_ = await partitions(clone_url, horizon=HORIZON, archive_needed=True)
        assert oldest.partition == month
        return "; ".join(oldest.hindrances)

    with pytest.raises(RetentionRefused, match="not all of it is sealed"):
        await dropping()
    with pytest.raises(RetentionRefused, match="not all of it is sealed"):
        await archive(clone_url, month, tmp_path, report=silent)
    await seal(clone_url, report=silent)
    with pytest.raises(RetentionRefused, match="deduplication may still reach it"):
        await dropping(horizon=timedelta(days=365))
    with pytest.raises(RetentionRefused, match="not the oldest"):
        await dropping(
            (await partitions(clone_url, horizon=HORIZON, archive_needed=False))[1].partition
        )
    with pytest.raises(RetentionRefused, match="no partition"):
        await dropping("candidates")
    await clone.execute("UPDATE lanes SET published_result_sequence = 0 WHERE lane = 1")
    with pytest.raises(RetentionRefused, match="not all of it is published"):
        await dropping()
    await clone.execute("UPDATE lanes SET published_result_sequence = result_sequence")
    with pytest.raises(RetentionRefused, match="not exported"):
        await dropping(archive_needed=True)
    assert "not exported" in await hindrances()

    # The function that drops judges by itself, whoever calls it.
    await clone.execute("SET ROLE funnel_retention")
    for partition, reason in ((month, "no_checkpoint"), ("journal", "not_oldest")):
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match=reason):
            await clone.execute("SELECT drop_journal_partition($1, $2, false)", partition, HORIZON)
    await clone.execute("RESET ROLE")
    for role in ("funnel_consumer", "funnel_api", "funnel_audit", "funnel_sealer"):
        await clone.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await clone.execute("SELECT drop_journal_partition($1, $2, false)", month, HORIZON)
        await clone.execute("RESET ROLE")

    rows_total = await clone.fetchval(f"SELECT count(*) FROM {month}")
    path = await archive(clone_url, month, tmp_path, report=silent)
    assert await archive(clone_url, month, tmp_path, report=silent) == path
    assert verify_export(path, report=silent).listed == []
    assert await clone.fetchval("SELECT rows_total FROM journal_archives") == rows_total
    assert await hindrances() == ""
    await dropping(archive_needed=True)
    assert await clone.fetchval(f"SELECT to_regclass('{month}')") is None


async def test_drop__what_remains_rebuilds_and_the_chain_verifies(
    clone: Connection, clone_url: str, month: str, dropping: Drop, verify_clone: Verify
) -> None:
    await clone.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
    )
    await seal(clone_url, report=silent)
    assert (await verify_clone()).listed == []
    expected = await rebuilt(clone)
    gone = await clone.fetchval(f"SELECT count(*) FROM {month}")
    lanes = await clone.fetch(
        "SELECT lane, max(result_sequence), max(journal_sequence), max(change_sequence) "
        f"FROM {month} GROUP BY lane ORDER BY lane"
    )
    # Interrupted after one lane's checkpoint, and begun again; a reader is in the way for a while.
    async with clone.transaction():
        await clone.execute("LOCK TABLE journal IN ACCESS SHARE MODE")
        blocked = asyncio.create_task(dropping())
        async with asyncio.timeout(60):
            while not await clone.fetchval(  # noqa: ASYNC110  another session waits
                "SELECT count(*) > 0 FROM pg_locks "
                "WHERE NOT granted AND mode = 'AccessExclusiveLock'"
            ):
                await asyncio.sleep(0.01)
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
    assert await chain_findings(verify_clone) == []
    await dropping()

    assert await clone.fetchval(f"SELECT to_regclass('{month}')") is None
    assert await rebuilt(clone) == expected
    assert [
        tuple(row)
        for row in await clone.fetch(
            "SELECT lane, result_sequence, journal_sequence, change_sequence FROM checkpoints "
            "WHERE dropped_at IS NOT NULL ORDER BY lane"
        )
    ] == [tuple(row) for row in lanes]
    assert await chain_findings(verify_clone) == []
    findings = await verify_clone(chain_heads=())
    assert findings.listed == []
    assert findings.rows["dropped rows"] == gone
    assert findings.rows["checkpoint rows"] > 0

    # An erasure leaves nothing in the checkpoint, and the chain whole.
    await erase(clone)
    blank = f"SELECT state IS NULL FROM checkpoint_candidates WHERE candidate_id = '{CANDIDATE}'"
    assert await clone.fetchval(blank) is True
    assert await chain_findings(verify_clone) == []

    # Tampering: with a checkpoint, and by a beginning that no cut knows of.
    for statement, where in (
        ("UPDATE checkpoint_candidates SET version = version + 1 WHERE lane = 1", "checkpoint"),
        ("UPDATE checkpoint_candidates SET state = '{}' WHERE lane = 1", "checkpoint"),
        ("DELETE FROM checkpoint_candidates WHERE lane = 1", "checkpoint"),
        ("UPDATE checkpoints SET result_sequence = result_sequence + 1 WHERE lane = 1", "result"),
        ("DELETE FROM checkpoints WHERE lane = 1", "link 1"),
    ):
        await clone.execute("CREATE TABLE c AS TABLE checkpoint_candidates")
        await clone.execute("CREATE TABLE k AS TABLE checkpoints")
        await clone.execute(statement)
        (found, *_) = await chain_findings(verify_clone)
        assert f"lane 1, {where}" in found, statement
        await clone.execute("TRUNCATE checkpoint_candidates, checkpoints")
        await clone.execute("INSERT INTO checkpoint_candidates TABLE c")
        await clone.execute("INSERT INTO checkpoints TABLE k; DROP TABLE c, k")
    assert await chain_findings(verify_clone) == []


async def test_drop__digests_of_erased_rows_go_with_their_month(
    clone: Connection, clone_url: str, month: str, dropping: Drop, verify_clone: Verify
) -> None:
    await seal(clone_url, report=silent)
    await erase(clone)
    of_month = (
        "SELECT count(*) FROM journal_erased_rows AS e WHERE EXISTS ("
        f"SELECT FROM {month} AS j WHERE j.lane = e.lane AND j.result_sequence = e.result_sequence)"
    )
    kept = "SELECT count(*) FROM journal_erased_rows"
    gone, all_of_them = await clone.fetchval(of_month), await clone.fetchval(kept)
    assert 0 < gone < all_of_them
    await dropping()
    assert await clone.fetchval(kept) == all_of_them - gone
    assert await chain_findings(verify_clone) == []


async def test_drop__topics_are_compared_from_the_cut_on(
    clone: Connection,
    clone_url: str,
    month: str,
    dropping: Drop,
    publish: Publish,
    verify_clone: Verify,
    topics: Topics,
    producer: AIOKafkaProducer,
    tmp_path: Path,
) -> None:
    gone = await clone.fetchrow(
        f"SELECT count(*) FILTER (WHERE kind <> 'item') AS results, "
        f"count(change_sequence) AS changes, "
        f"count(*) FILTER (WHERE kind = 'dead_letter') AS dead_letters FROM {month}"
    )
    assert gone is not None
    assert min(gone) > 0
    now = int(time.time() * 1000)  # what is as old as the month would be gone from the topics

    def recent(records: list[OutputRecord]) -> list[OutputRecord]:
        return [record._replace(timestamp=now) for record in records]

    outputs = (topics.results, topics.changes, topics.dead_letters)
    await publish({(topic, lane): recent for topic in outputs for lane in range(PARTITIONS_TOTAL)})
    await seal(clone_url, report=silent)
    await archive(clone_url, month, tmp_path, report=silent)
    whole = await verify_clone(topics)
    assert (whole.listed, whole.behind_the_cut) == ([], 0)
    await dropping(archive_needed=True)
    findings = await verify_clone(topics)
    assert findings.listed == []
    assert findings.behind_the_cut == sum(gone)
    assert findings.rows["output records"] == whole.rows["output records"] - sum(gone)

    # On the near side everything is found as before: in the first row there, and a repeat.
    first = await clone.fetchval("SELECT min(result_sequence) FROM journal WHERE lane = 1")
    await clone.execute(
        "UPDATE journal SET traceparent = 'another' WHERE lane = 1 AND result_sequence = $1", first
    )
    repeat = OutputRecord(topics.results, 2, None, b"{}", [("ce_sequence", b"1")], now)
    await write(producer, repeat)
    await producer.flush()
    findings = await verify_clone(topics)
    found = {
        (each.where.partition(",")[0], each.found)
        for each in findings.listed
        if each.where.startswith(topics.results)
    }
    assert found == {
        (f"{topics.results}/1", "others: traceparent"),
        (f"{topics.results}/2", "number 1 again, or out of order"),
    }
    assert findings.behind_the_cut == sum(gone)


@pytest.mark.parametrize("month", [UP_TO_A_BULK], indirect=True)
async def test_verify__operation_behind_the_cut_is_not_one_without_changes(
    clone: Connection, clone_url: str, month: str, dropping: Drop, verify_clone: Verify
) -> None:
    behind = await clone.fetchval(f"SELECT count(*) FROM {month} WHERE kind = 'item'")
    left = await clone.fetchval("SELECT count(*) FROM journal WHERE kind = 'item'") - behind
    assert (behind, left) == (2, 3)
    await seal(clone_url, report=silent)
    assert (await verify_clone()).listed == []
    await dropping()
    findings = await verify_clone()
    assert findings.listed == []
    assert findings.rows["operations"] == 2

    # A change that the checkpoint does not reach is missed, of either operation.
    await clone.execute("UPDATE journal SET operation_id = NULL WHERE kind = 'item'")
    await clone.execute(
        "UPDATE checkpoint_candidates AS c SET version = n.version - 1"
        " FROM bulk_operation_items AS n"
        " WHERE n.candidate_id = c.candidate_id AND n.outcome = 'applied'"
        " AND n.version <= c.version"
    )
    missed = [each for each in (await verify_clone()).listed if each.check == "operations"]
    assert [(each.expected, each.found) for each in missed] in (
        [("2", "0"), ("3", "0")],
        [("3", "0"), ("2", "0")],
    )


async def test_drop__killed_at_each_step_writes_each_checkpoint_once(
    clone: Connection, clone_url: str, month: str, verify_clone: Verify, tmp_path: Path
) -> None:
    """The process itself, ended by SIGKILL; the next one goes on as if nothing had happened."""
    await clone.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
    )
    await seal(clone_url, report=silent)
    expected = await rebuilt(clone)
    lanes = [row[0] for row in await clone.fetch(f"SELECT DISTINCT lane FROM {month} ORDER BY 1")]
    cuts = "SELECT lane FROM journal_seals WHERE kind = 'cut' ORDER BY lane"

    async def dropped(crash_at: str | None) -> int:
        environment = {"DATABASE_URL": clone_url}
        if crash_at is not None:
            environment["FUNNEL_CRASH_AT"] = crash_at
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("funnel"), "journal", "drop", month, cwd=tmp_path,
            env=environment,
        )  # fmt: skip
        return await process.wait()

    # Begun, written but not committed, a second lane not committed, and a second one committed.
    for point, cut in (
        ("after_checkpoint_begin", 0),
        ("after_checkpoint_write", 0),
        ("after_checkpoint_link:2", 1),
        ("after_checkpoint:2", 2),
    ):
        assert await dropped(point) == -signal.SIGKILL
        assert len(await clone.fetch(cuts)) == cut, point
        assert (await chain_of(clone)).listed == []
    assert await dropped(None) == 0
    assert [row[0] for row in await clone.fetch(cuts)] == lanes
    assert await clone.fetchval(f"SELECT to_regclass('{month}')") is None
    assert (await verify_clone(chain_heads=())).listed == []
    assert await rebuilt(clone) == expected
