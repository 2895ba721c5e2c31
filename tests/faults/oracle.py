"""The oracle of the fault tests: whatever crashed, what is there must be exactly this.

Everything is read back from the topics and the tables, and compared with one another; nothing is
taken from the consumers' word.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import asyncpg
import orjson
from aiokafka import ConsumerRecord

from contract.events import EventBuilder, OutputRecord
from contract.journal import COLUMNS, JournalRow, journal_row, timestamp_text
from tests.faults.workload import number_of
from tests.faults.world import World

Row = dict[str, Any]
SETTLING = ("command", "reroute", "dead_letter")
"""Kinds of rows that are about a record of the commands topic."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What there is, for assertions of the test itself."""

    lanes: list[Row]
    kinds: Counter[str]
    outcomes: Counter[str]
    versions: dict[tuple[str, str], int]


async def verify(world: World, *, redelivered: bool = False) -> Tally:
    """Assert every promise; of a lane that was moved back, all but one result for each record."""
    for log in world.logs:
        await log.read_on()
    lanes, journal, candidates = await _tables(world)
    by_lane: list[list[JournalRow]] = [[] for _ in lanes]
    for row in journal:
        by_lane[row.lane].append(row)
    for lane, rows in zip(lanes, by_lane, strict=True):
        _verify_lane(lane, rows)
        if not redelivered:
            _verify_commands(lane, rows, world.commands.records[lane["lane"]])
    _verify_output(world, by_lane)
    _verify_forwarded(world, journal)
    _verify_identities(journal)
    versions = _verify_candidates(world, journal, candidates)
    return Tally(
        lanes,
        Counter(row.kind for row in journal),
        Counter(row.outcome for row in journal if row.outcome),
        versions,
    )


def _verify_lane(lane: Row, rows: Sequence[JournalRow]) -> None:
    """The lane row counts what the journal holds, and was moved past all of it."""
    assert [row.journal_sequence for row in rows] == list(range(1, len(rows) + 1))
    closing = [row.result_sequence for row in rows if row.kind != "item"]
    assert closing == list(range(1, len(closing) + 1))
    for row, following in pairwise(rows):
        inside = row.kind == "item"
        assert following.result_sequence == row.result_sequence + (not inside)
    assert not rows or rows[-1].kind != "item"
    changes = [row.change_sequence for row in rows if row.change_sequence is not None]
    assert changes == list(range(1, len(changes) + 1))
    assert lane["journal_sequence"] == len(rows)
    assert lane["result_sequence"] == len(closing)
    assert lane["change_sequence"] == len(changes)
    assert lane["published_result_sequence"] <= lane["result_sequence"]
    instants = [row.recorded_at for row in rows]
    assert instants == sorted(instants)
    if rows:
        settled = [row.source_offset for row in rows if row.kind in SETTLING]
        assert lane["last_record_offset"] == settled[-1] < lane["next_offset"]
        # A look for erasures left undone moves the lane's clock, and writes no row.
        assert lane["last_recorded_at"] >= instants[-1]


def _verify_commands(
    lane: Row, rows: Sequence[JournalRow], commands: Sequence[ConsumerRecord]
) -> None:
    """Each command record was settled once, in order."""
    settled = [row.source_offset for row in rows if row.kind in SETTLING]
    assert settled == [record.offset for record in commands]
    assert all(record.offset < lane["next_offset"] for record in commands)


def _verify_output(world: World, by_lane: Sequence[Sequence[JournalRow]]) -> None:
    """Results and changes are, byte for byte and in order, what the journal says."""
    builder = EventBuilder(world.topics)
    for lane, rows in enumerate(by_lane):
        built = [record for row in rows for record in builder.records(row)]
        for topic, log in (
            (world.topics.results, world.results),
            (world.topics.changes, world.changes),
        ):
            read = log.records[lane]
            assert [_output_record(each) for each in read] == [
                record for record in built if record.topic == topic
            ]
            for sequence, record in enumerate(read, 1):
                headers = dict(record.headers)
                assert headers["ce_sequence"] == f"{sequence:020}".encode()
                assert headers["ce_id"] == f"{topic}/{lane}/{sequence}".encode()
                assert orjson.loads(record.value)["sequence"] == sequence


def _output_record(record: ConsumerRecord) -> OutputRecord:
    return OutputRecord(
        record.topic, record.partition, record.key, record.value, list(record.headers),
        record.timestamp,
    )  # fmt: skip


def _verify_forwarded(world: World, journal: Sequence[JournalRow]) -> None:
    """Reroutes reached their home lane once, dead letters their topic once."""
    builder = EventBuilder(world.topics)
    built = [record for row in journal for record in builder.records(row)]
    dead = [record for record in built if record.topic == world.topics.dead_letters]
    read = [_output_record(each) for records in world.dead_letters.records for each in records]
    assert dead == read
    rerouted = Counter(
        (record.partition, record.key, record.value)
        for record in built
        if record.topic == world.topics.commands
    )
    there = Counter(
        (each.partition, each.key, each.value)
        for records in world.commands.records
        for each in records
    )
    assert rerouted <= there
    assert world.commands.total == world.sent + rerouted.total()


def _verify_identities(journal: Sequence[JournalRow]) -> None:
    """Of all records with one identity, one was settled; the others are told apart from it."""
    settled = Counter(
        (row.organization_id, row.command_source, row.command_id)
        for row in journal
        if row.kind == "command" and row.outcome != "duplicate" and row.reason != "id_reused"
    )
    assert set(settled.values()) <= {1}


def _verify_candidates(
    world: World, journal: Sequence[JournalRow], candidates: dict[tuple[str, str], Row]
) -> dict[tuple[str, str], int]:
    """Versions follow each other; table, journal and compacted topic agree on the newest."""
    states: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in journal:
        if row.change is not None:
            data = orjson.loads(row.change)
            assert (data["previous_version"] or 0) + 1 == data["version"] == row.version
            states[str(row.organization_id), str(row.candidate_id)].append(data["state"])
    for versions in states.values():
        assert [state["version"] for state in versions] == list(range(1, len(versions) + 1))
        numbers = [number_of(state) for state in versions]
        assert numbers == sorted(numbers)
    newest = {key: versions[-1] for key, versions in states.items()}
    assert newest == candidates
    compacted = {
        record.key: orjson.loads(record.value)["state"]
        for records in world.changes.records
        for record in records
    }
    assert compacted == {"/".join(key).encode(): state for key, state in newest.items()}
    return {key: len(versions) for key, versions in states.items()}


async def _tables(
    world: World,
) -> tuple[list[Row], list[JournalRow], dict[tuple[str, str], Row]]:
    connection = await asyncpg.connect(world.database_url, timeout=10)
    try:
        await connection.set_type_codec(
            "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
        )
        lanes = [dict(row) for row in await connection.fetch("SELECT * FROM lanes ORDER BY lane")]
        columns = ", ".join(f"j.{column}" for column in COLUMNS)
        columns = columns.replace("j.forward", "coalesce(j.forward, d.record)")
        journal = await connection.fetch(
            f"SELECT {columns} FROM journal AS j LEFT JOIN dead_letters AS d ON d.lane = j.lane"
            " AND d.result_sequence = j.result_sequence ORDER BY j.lane, j.journal_sequence"
        )
        candidates = await connection.fetch("SELECT * FROM candidates")
    finally:
        await connection.close(timeout=5)
    states = [_state(row) for row in candidates]
    return (
        lanes,
        [journal_row(row) for row in journal],
        {(state["organization_id"], state["candidate_id"]): state for state in states},
    )


def _state(row: asyncpg.Record) -> Row:
    state = dict(row)
    for name in ("organization_id", "candidate_id"):
        state[name] = str(state[name])
    for name in ("created_at", "updated_at"):
        state[name] = timestamp_text(state[name])
    state["attributes"] = orjson.loads(state["attributes"])
    return state
