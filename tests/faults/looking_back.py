"""The audit tools over a history that faults have been through, each against what the topics say.

Everything that is expected is recomputed here from the records as a reader has them; of the
database only how many rows there are is asked.
"""

import uuid
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient

from audit.command_records import command_records
from audit.database import open_audit
from audit.export import export
from audit.export_file import exported_rows, verify_export
from audit.findings import Findings, Meter
from audit.history import candidate_at, candidate_history
from audit.outputs import Output
from audit.ranges import Range, pages, spans_of
from audit.rebuild import rebuild
from audit.republish import republish
from audit.seal import seal
from audit.verify import verify
from contract.events import DEFAULT_SOURCE
from contract.journal import timestamp_text
from domain.commands import CommandParser
from funnel.replaying import Replay, Rules, open_replay
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.log import Log
from tests.faults.world import World

Change = dict[str, Any]
Key = tuple[str, str]
NULLABLE = ("phone", "pipeline_stage", "rating", "source")
LOOKED_BACK_AT = 12
"""Candidates whose every version is asked for."""

REPLAYED = 40
"""Results: each transaction of the lane is one of the replay."""


async def look_back(world: World, folder: Path) -> None:
    """Assert that each tool tells what the output tells. Nothing is under way meanwhile."""
    for log in world.logs:
        await log.read_on()
    changes = [
        [orjson.loads(record.value) for record in records] for records in world.changes.records
    ]
    rows_total = await world.value("SELECT count(*) FROM journal")
    await _verifies(world, sum(map(len, changes)), rows_total)
    await _rebuilds(world, changes)
    await _exports(world, changes, rows_total, folder / f"{uuid.uuid4().hex}.jsonl.zst")
    await _republishes(world)
    await _travels(world, changes)
    await _replays(world)


async def _verifies(world: World, changes_total: int, rows_total: int) -> None:
    await seal(world.database_url, report=_nobody)
    findings: Findings = await verify(
        world.database_url, deduplication=timedelta(days=35), report=_nobody,
        output=_output(world), chain_heads=(),
    )  # fmt: skip
    assert findings.listed == []
    logs = (world.results, world.changes, world.dead_letters)
    assert findings.rows["output records"] == sum(log.total for log in logs)
    assert findings.rows["versions"] == changes_total
    assert findings.rows["journal rows"] == findings.rows["sealed rows"] == rows_total


async def _rebuilds(world: World, changes: list[list[Change]]) -> None:
    """The shadow is the changes one on top of the other, field by field."""
    states: dict[Key, Change] = defaultdict(lambda: dict.fromkeys(NULLABLE))
    for each in _in_order(changes):
        states[_key(each)] |= {name: step["to"] for name, step in each["changed"].items()}
        states[_key(each)]["version"] = each["version"]
    rebuilt = await rebuild(world.database_url, report=_nobody, keep=True)
    assert (rebuilt.findings.listed, rebuilt.candidates) == ([], len(states))
    rows = [row[0] for row in await world.fetch("SELECT to_jsonb(c) FROM shadow.candidates AS c")]
    found = {_key(row): row for row in map(orjson.loads, rows)}
    assert {key: {name: row[name] for name in states[key]} for key, row in found.items()} == states


async def _exports(world: World, changes: list[list[Change]], rows_total: int, path: Path) -> None:
    """Every row once, the changes as they were told, the commands as they were sent."""
    async with command_records(world.kafka, world.topics.commands) as records:
        await export(world.database_url, Range(), path, report=_nobody, commands=records.of)
    assert verify_export(path, report=_nobody).listed == []
    rows = [row for page in exported_rows(path) for row in page]
    assert len(rows) == rows_total
    told: list[list[Change]] = [[] for _ in changes]
    for row in rows:
        if row["change"] is not None:
            told[row["lane"]].append(row["change"])
    assert told == changes
    received = {(row["lane"], row["source_offset"]) for row in rows if "command" in row}
    assert received == {
        (lane, record.offset)
        for lane, records_of in enumerate(world.commands.records)
        for record in records_of
    }


async def _republishes(world: World) -> None:
    """The same bytes under the same numbers in another topic."""
    for log, of in ((world.changes, world.topics.changes), (world.results, world.topics.results)):
        again = f"{world.topics.prefix}again-{uuid.uuid4().hex[:8]}"
        await republish(
            world.database_url, _output(world), Range(), again, of=frozenset({of}),
            report=_nobody, create=True,
        )  # fmt: skip
        written = Log(world.kafka, again)
        await written.start()
        await written.read_on()
        await written.stop()
        assert [list(map(_bytes, each)) for each in written.records] == [
            list(map(_bytes, each)) for each in log.records
        ]
        admin = AIOKafkaAdminClient(**world.kafka)
        await admin.start()
        await admin.delete_topics([again])
        await admin.close()


async def _replays(world: World) -> None:
    """This build decides again as it has decided, whatever happened in between: a lane's end."""
    lane = max(range(PARTITIONS_TOTAL), key=lambda number: len(world.results.records[number]))
    last = len(world.results.records[lane])
    asked = Range(lane=lane, first=max(1, last - REPLAYED), last=last)
    findings = Findings()
    rules = Rules(
        topics=world.topics,
        parser=CommandParser(phone_region=None),
        deduplication=timedelta(days=35),
        chunk_items=1000,
        partitions_total=PARTITIONS_TOTAL,
    )
    shadow = await open_replay(world.database_url)
    replay = Replay(shadow, rules, findings)
    async with (
        open_audit(world.database_url) as connection,
        command_records(world.kafka, world.topics.commands) as records,
    ):
        (span,) = await spans_of(connection, asked)
        rows = pages(connection, asked, span)
        await replay.run(rows, records.of, Meter(1, _nobody), first=span.first)
    await shadow.close(timeout=5)
    assert findings.listed == []
    assert 0 < findings.rows["commands"] <= REPLAYED + 1


async def _travels(world: World, changes: list[list[Change]]) -> None:
    """Candidates at each version, at the instant of each, and their histories."""
    of_candidate: dict[Key, list[Change]] = defaultdict(list)
    for each in _in_order(changes):
        of_candidate[_key(each)].append(each)
    async with open_audit(world.database_url) as connection:
        for key in sorted(of_candidate)[:: max(1, len(of_candidate) // LOOKED_BACK_AT)]:
            await _travel(connection, key, of_candidate[key])


async def _travel(connection: asyncpg.Connection, key: Key, changes: list[Change]) -> None:
    who: dict[str, Any] = dict(
        zip(("organization_id", "candidate_id"), map(uuid.UUID, key), strict=True)
    )
    for each in changes:
        found = await candidate_at(connection, **who, version=each["version"])
        assert found == each["state"]
        instant = datetime.fromisoformat(each["recorded_at"])
        newest = [one for one in changes if one["recorded_at"] <= each["recorded_at"]][-1]
        assert await candidate_at(connection, **who, as_of=instant) == newest["state"]
    names = ("version", "previous_version", "changed", "actor", "command_id", "command_source")
    assert [
        {name: step[name] for name in names}
        | {"recorded_at": timestamp_text(step["recorded_at"]), "sequence": step["sequence"]}
        async for step in candidate_history(connection, **who)
    ] == [
        {name: each[name] for name in (*names, "recorded_at", "sequence")}
        for each in reversed(changes)
    ]


def _in_order(changes: list[list[Change]]) -> list[Change]:
    """Each candidate's in its order: it has one lane."""
    return [each for lane in changes for each in lane]


def _key(change: Change) -> Key:
    return change["organization_id"], change["candidate_id"]


def _bytes(record: ConsumerRecord) -> tuple[Any, ...]:
    """All but the offset."""
    return record.partition, record.key, record.value, list(record.headers), record.timestamp


def _output(world: World) -> Output:
    return Output(kafka=world.kafka, topics=world.topics, event_source=DEFAULT_SOURCE)


def _nobody(_done: int, _total: int) -> None:
    return None
