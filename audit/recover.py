"""`funnel recover`: rebuilds what PostgreSQL has lost and the topics still tell.

A database restored from an old backup knows fewer results than were published, and its lanes halt.
Of each such lane, results, changes, dead letters and commands are read from where it stands, the
journal rows that published them are made again, and rows, candidates and lane advance together, a
bounded number in each transaction. Cut short, it goes on from there the next time. A lane is never
moved beyond what was published, so its consumer, which halts until then, may run all the while.
"""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from audit.lost_rows import (
    Place,
    RecoverRefused,
    Told,
    demand_rebuildable,
    erases,
    erasure_reason,
    lost_row,
    source_record,
)
from audit.output_log import LogRecord, OutputLog, demand_topics, open_log
from audit.outputs import Output
from audit.recover_store import RecoverStore, StandingLane, open_recovery
from contract.events import DEAD_LETTERED, ERASED, EventBuilder
from contract.journal import JournalRow
from contract.record import record_digest
from domain.commands import ERASE

UNITS_A_TRANSACTION = 500
"""Some seconds of work at most: the lane's row is locked for as long."""

_LOOK_BACK = timedelta(minutes=1)
"""Before the lane's last batch, by the records' timestamps: a margin, as theirs are its clock's."""

Report = Callable[[int], None]


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
    database_url: str, output: Output, *, dry_run: bool, report: Report
) -> list[Recovered]:
    """Bring every lane up to what its output says.

    Args:
        dry_run: read and compare everything, write nothing.
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
    async with open_recovery(database_url) as connection:
        store = RecoverStore(connection, write=not dry_run)
        lanes = await store.lanes()
        topics = output.topics
        names = [topics.commands, topics.results, topics.changes, topics.dead_letters]
        await demand_topics(output.kafka, names, partitions_total=len(lanes))
        for lane in lanes:
            async with AsyncExitStack() as opened:
                recovery = await _LaneRecovery.open(opened, store, output, lane)
                while rebuilt := await recovery.run_once():
                    total += rebuilt
                    report(total)
            if recovery.done.results:
                done.append(recovery.done)
    return done


class _LaneRecovery:
    """One lane, its four logs side by side."""

    def __init__(
        self, store: RecoverStore, output: Output, lane: StandingLane, logs: Mapping[str, OutputLog]
    ) -> None:
        self._store = store
        self._topics = output.topics
        self._builder = EventBuilder(output.topics, output.event_source)
        self._lane = lane
        self._logs = logs
        self.done = Recovered(lane.lane)

    @classmethod
    async def open(
        cls, opened: AsyncExitStack, store: RecoverStore, output: Output, lane: StandingLane
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
        return cls(store, output, lane, logs)

    async def run_once(self) -> int:
        """One transaction's worth; how many results it rebuilt, 0 at the end of the output."""
        units: list[_Unit] = []
        lane = self._lane
        while len(units) < UNITS_A_TRANSACTION:
            unit = await self._unit(lane)
            if unit is None:
                break
            units.append(unit)
            lane = _behind(lane, unit)
        if units:
            reasons = {
                unit.row.journal_sequence: erasure_reason(unit.command)
                for unit in units
                if unit.command is not None and erases(unit.row)
            }
            await self._store.write(self._lane, lane, [unit.row for unit in units], reasons)
            self._lane = lane
            self._count(units)
        return len(units)

    async def _unit(self, lane: StandingLane) -> _Unit | None:
        result = await self._numbered(self._topics.results, lane.result_sequence + 1)
        if result is None:
            return None
        try:
            told = await self._told(lane, result)
            place = Place(
                lane.lane, lane.journal_sequence + 1, lane.change_sequence + 1,
                lane.next_offset - 1,
            )  # fmt: skip
            return _Unit(lost_row(told, place, self._builder), told.command, result.offset)
        except RecoverRefused as refused:
            raise RecoverRefused(
                f"lane {lane.lane}, result {result.position}: {refused}"
            ) from refused

    async def _told(self, lane: StandingLane, result: LogRecord) -> Told:
        demand_rebuildable(result)
        event_type = dict(result.headers).get("ce_type")
        if event_type == ERASED.encode():  # news of our own, which no command came with
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
        log = self._logs[topic]
        while (record := await log.peek()) is not None:
            if record.position is None:
                raise RecoverRefused(f"{topic} holds a record without a number")
            if record.position > position:
                return None
            log.take()
            if record.position == position:
                return record
        return None

    def _count(self, units: list[_Unit]) -> None:
        for row, _, _ in units:
            self.done.results += 1
            self.done.changes += row.change_sequence is not None
            self.done.reroutes += row.kind == "reroute"
            self.done.dead_letters += row.kind == "dead_letter"


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
