"""`funnel recover`: rebuilds what PostgreSQL has lost and the topics still tell.

A database restored from an old backup knows fewer results than were published, and its lanes halt.
Of each such lane, results, changes, dead letters and commands are read from where it stands, the
journal rows that published them are made again, and rows, candidates and lane advance together, a
bounded number in each transaction. Bulk operations have tables that the topics do not tell row by
row: their commands and chunks are settled again by the consumer's own code, at the instant and the
numbers of then, and must come out as published. Cut short, it goes on from there the next time. A
lane is never moved beyond what was published, so its consumer, which halts until then, may run all
the while.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

import asyncpg
import orjson

from audit.lost_rows import (
    Place,
    RecoverRefused,
    Told,
    erases,
    erasure_reason,
    lost_row,
    repairs,
    settled_again,
    source_record,
)
from audit.output_log import LogRecord, OutputLog, demand_topics, open_log
from audit.outputs import Output
from audit.recover_store import RecoverStore, StandingLane, open_recovery
from contract.events import DEAD_LETTERED, ERASED, REPAIRED, SETTLED, EventBuilder
from contract.journal import JournalRow
from contract.record import record_digest
from domain.commands import ERASE

UNITS_A_TRANSACTION = 500
"""Some seconds of work at most: the lane's row is locked for as long."""

_LOOK_BACK = timedelta(minutes=1)
"""Before the lane's last batch, by the records' timestamps: a margin, as theirs are its clock's."""

Report = Callable[[int], None]
Settled = tuple[Sequence[JournalRow], StandingLane]
"""Rows that were written, and the lane as it stands behind them."""


class Settler(Protocol):
    """The consumer's own code, at work in a transaction of the recovery.

    What it cannot do again, it refuses: RecoverRefused.
    """

    async def prepare(self, connection: asyncpg.Connection) -> None:
        """Once, before anything is settled on it."""

    async def command(
        self, connection: asyncpg.Connection, lane: StandingLane, command: LogRecord
    ) -> Settled:
        """Settle a command behind where the lane stands, at the lane's instant."""

    async def chunk(
        self,
        connection: asyncpg.Connection,
        lane: StandingLane,
        operation: tuple[str, str],
        *,
        pending: int,
    ) -> Settled:
        """Work an operation, by organization and id, off until so many of its items are pending."""


@dataclass(slots=True)
class Recovered:
    """What was rebuilt, or would be."""

    lane: int
    results: int = 0
    changes: int = 0
    dead_letters: int = 0
    reroutes: int = 0


class _Unit(NamedTuple):
    row: JournalRow
    command: LogRecord | None
    result_offset: int


async def recover(
    database_url: str, output: Output, settler: Settler, *, dry_run: bool, report: Report
) -> list[Recovered]:
    """Bring every lane up to what its output says.

    Args:
        dry_run: rebuild and compare everything, keep nothing of it.
        report: takes how many results are rebuilt so far.

    Returns:
        The lanes that had lost something.

    Raises:
        RecoverRefused: the topics no longer tell all of it; what came before stays rebuilt.
        AuditRefused, TopicMissing: a role, a grant, a table or a topic is missing.
        OSError, asyncpg.PostgresConnectionError, KafkaError: a server does not answer.
    """
    done: list[Recovered] = []
    total = 0
    async with open_recovery(database_url, keep=not dry_run) as connection:
        await settler.prepare(connection)
        store = RecoverStore(connection)
        lanes = await store.lanes()
        topics = output.topics
        names = [topics.commands, topics.results, topics.changes, topics.dead_letters]
        await demand_topics(output.kafka, names, partitions_total=len(lanes))
        for lane in lanes:
            async with AsyncExitStack() as opened:
                recovery = await _LaneRecovery.open(opened, store, output, settler, lane)
                await opened.enter_async_context(store.written(keep=not dry_run))
                while rebuilt := await recovery.run_once():
                    total += rebuilt
                    report(total)
            if recovery.done.results:
                done.append(recovery.done)
    return done


class _LaneRecovery:
    """One lane, its four logs side by side."""

    def __init__(
        self,
        store: RecoverStore,
        output: Output,
        settler: Settler,
        lane: StandingLane,
        logs: Mapping[str, OutputLog],
    ) -> None:
        self._store = store
        self._settler = settler
        self._topics = output.topics
        self._builder = EventBuilder(output.topics, output.event_source)
        self._lane = lane
        self._logs = logs
        self.done = Recovered(lane.lane)

    @classmethod
    async def open(
        cls,
        opened: AsyncExitStack,
        store: RecoverStore,
        output: Output,
        settler: Settler,
        lane: StandingLane,
    ) -> "_LaneRecovery":
        """Stand where the lane's row stands, on each topic."""
        topics = output.topics
        since = lane.last_recorded_at
        since = since - _LOOK_BACK if since is not None else datetime.fromtimestamp(0, UTC)
        starts: dict[str, dict[str, Any]] = {
            topics.commands: {"header": "", "offset": lane.next_offset},
            topics.results: {"header": "ce_sequence", "since": since},
            topics.changes: {"header": "ce_sequence", "since": since},
            topics.dead_letters: {"header": "x-original-offset", "since": since},
        }
        logs = {
            topic: await opened.enter_async_context(
                open_log(output.kafka, topic, lane.lane, **start)
            )
            for topic, start in starts.items()
        }
        return cls(store, output, settler, lane, logs)

    async def run_once(self) -> int:
        """One transaction's worth; how many results it rebuilt, 0 at the end of the output."""
        units: list[_Unit] = []
        lane = self._lane
        while len(units) < UNITS_A_TRANSACTION:
            result = await self._look(self._topics.results, lane.result_sequence + 1)
            if result is None:
                break
            with _refusing_at(lane, result):
                if settled_again(result) or repairs(result):
                    if units:  # it reads what they write
                        break
                    return await self._alone(lane, result)
                units.append(await self._unit(lane))
            lane = _behind(lane, units[-1])
        if units:
            reasons = {
                unit.row.journal_sequence: erasure_reason(unit.command)
                for unit in units
                if unit.command is not None and erases(unit.row)
            }
            rows = [unit.row for unit in units]
            await self._store.write(self._lane, lane, rows, reasons)
            self._lane = lane
            self._count(rows)
        return len(units)

    async def _alone(self, lane: StandingLane, result: LogRecord) -> int:
        """A transaction of its own, which reads what all before it wrote."""
        if repairs(result):
            unit = await self._unit(lane)
            rows: Sequence[JournalRow] = [unit.row]
            after = _behind(lane, unit)
            await self._store.repair(lane, after, unit.row)
        else:
            async with self._store.standing(lane) as (connection, locked):
                rows, after = await self._settle_again(connection, locked, result)
                await self._demand_published(rows)
        self._lane = after
        self._count(rows)
        return after.result_sequence - lane.result_sequence

    async def _settle_again(
        self, connection: asyncpg.Connection, lane: StandingLane, result: LogRecord
    ) -> Settled:
        data = orjson.loads(result.value or b"{}")
        lane = lane._replace(
            last_recorded_at=datetime.fromisoformat(data.get("settled_at") or data["recorded_at"]),
            published_result_sequence=data["sequence"],
            published_end_offset=max(result.offset + 1, lane.published_end_offset),
        )
        if dict(result.headers).get("ce_type") == SETTLED.encode():
            command = await self._command(lane)
            return await self._settler.command(connection, lane, command)
        operation = data["organization_id"], data["operation_id"]
        pending = data["counts"]["pending"]
        return await self._settler.chunk(connection, lane, operation, pending=pending)

    async def _demand_published(self, rows: Sequence[JournalRow]) -> None:
        """What these rows publish is there, byte for byte; the end of an operation may lie behind
        the end of the output."""
        for row in rows:
            for built in self._builder.records(row):
                on_results = built.topic == self._topics.results
                number = row.result_sequence if on_results else row.change_sequence or 0
                there = await self._numbered(built.topic, number)
                if there is None and row.kind == "completed":
                    return
                if there is None:
                    raise RecoverRefused(f"{built.topic} {number} is gone")
                if (built.key, built.value, built.headers) != there[2:5]:
                    raise RecoverRefused(
                        f"settled again, {built.topic} {number} comes out otherwise than it was"
                        " published: run this with the version, the settings and the database's"
                        " own rules of then"
                    )

    async def _unit(self, lane: StandingLane) -> _Unit:
        """Of the result that was looked at, which is taken now."""
        result = self._logs[self._topics.results].take()
        told = await self._told(lane, result)
        place = Place(
            lane.lane, lane.journal_sequence + 1, lane.change_sequence + 1, lane.next_offset - 1
        )
        return _Unit(lost_row(told, place, self._builder), told.command, result.offset)

    async def _told(self, lane: StandingLane, result: LogRecord) -> Told:
        event_type = dict(result.headers).get("ce_type")
        if event_type in (ERASED.encode(), REPAIRED.encode()):  # of our own: no command came
            return Told(result, None, None, None)
        command = await self._command(lane)
        change = dead_letter = None
        if _changed(result):
            change = await self._numbered(self._topics.changes, lane.change_sequence + 1)
            if change is None:
                raise RecoverRefused(f"change {lane.change_sequence + 1} is gone")
        if event_type == DEAD_LETTERED.encode():
            dead_letter = await self._numbered(self._topics.dead_letters, command.offset)
        return Told(result, command, change, dead_letter)

    async def _command(self, lane: StandingLane) -> LogRecord:
        log = self._logs[self._topics.commands]
        if log.first > lane.next_offset:
            raise RecoverRefused(f"commands from offset {lane.next_offset} on have expired")
        command = await log.peek()
        if command is None:
            raise RecoverRefused("its command is not there")
        return log.take()

    async def _numbered(self, topic: str, position: int) -> LogRecord | None:
        """The record with this number, those before it left out; None if it is not there."""
        record = await self._look(topic, position)
        return None if record is None else self._logs[topic].take()

    async def _look(self, topic: str, position: int) -> LogRecord | None:
        """As `_numbered`; the record is not taken."""
        log = self._logs[topic]
        while (record := await log.peek()) is not None:
            if record.position is None:
                raise RecoverRefused(f"{topic} holds a record without a number")
            if record.position == position:
                return record
            if record.position > position:
                return None
            log.take()
        return None

    def _count(self, rows: Sequence[JournalRow]) -> None:
        for row in rows:
            self.done.results += row.kind != "item"
            self.done.changes += row.change_sequence is not None
            self.done.reroutes += row.kind == "reroute"
            self.done.dead_letters += row.kind == "dead_letter"


@contextmanager
def _refusing_at(lane: StandingLane, result: LogRecord) -> Iterator[None]:
    """What is refused within is said to be of this result."""
    try:
        yield
    except RecoverRefused as refused:
        raise RecoverRefused(f"lane {lane.lane}, result {result.position}: {refused}") from refused


def _changed(result: LogRecord) -> bool:
    data = orjson.loads(result.value or b"{}")
    outcome, erases = data.get("outcome"), data.get("command_type") == ERASE
    return outcome in ("applied", "merged") or (outcome == "accepted" and erases)


def _behind(lane: StandingLane, unit: _Unit) -> StandingLane:
    """The lane's row as the transaction that wrote this unit left it."""
    row, command = unit.row, unit.command
    if command is not None:
        lane = lane._replace(
            next_offset=command.offset + 1,
            last_record_offset=command.offset,
            last_record_timestamp=command.timestamp,
            last_record_digest=record_digest(source_record(command)),
        )
    return lane._replace(
        journal_sequence=row.journal_sequence,
        result_sequence=row.result_sequence,
        change_sequence=row.change_sequence or lane.change_sequence,
        published_result_sequence=row.result_sequence,
        published_end_offset=max(unit.result_offset + 1, lane.published_end_offset),
        last_recorded_at=row.recorded_at,
    )
