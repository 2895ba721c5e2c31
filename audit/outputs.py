"""The output logs are what the journal says: every record there once, in order, byte for byte.

Of one lane, its journal rows and its three logs are merged by their numbers, so memory holds one
page of rows and one fetch of each log, however long they are. What is newer than the lane's row
was when the lane was begun is not looked at, and what lies behind the cut at which its journal
begins is only counted: the months that could tell of it were dropped.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from audit.bookmark import Bookmark
from audit.findings import Findings, Meter
from audit.output_log import LogRecord, OutputLog, demand_topics, open_log
from audit.sequences import Lane
from audit.sqlfiles import statement
from contract.dead_letters import was_erased
from contract.events import EventBuilder, OutputRecord
from contract.journal import JournalRow, journal_row, whole_units
from contract.record import unpack
from contract.topics import COMPACTION_LAG_MIN, Topics
from domain.commands import ERASE
from domain.limits import DEAD_LETTERS_KEPT_DAYS

PAGE_ROWS = 2000
"""Some 10 MB with their events; a page of dead letters may hold 4 MiB each: a guess."""

_LANE = statement("lane")
_OUTPUT_ROWS = statement("output_rows")
_OUTPUT_CUT = statement("output_cut")
_SUPERSEDED = statement("superseded")
_CONSUMERS_ALIVE = statement("consumers_alive")
_UNBUILDABLE = (KeyError, TypeError, ValueError, AttributeError, struct.error)
"""What building events of a row raises that does not hold what its kind needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where the output is, and how its events are built. `kafka`: options of aiokafka's clients.

    Dead letters older than `dead_letters_kept` may be gone from PostgreSQL.
    """

    kafka: Mapping[str, Any]
    topics: Topics
    event_source: str
    dead_letters_kept: timedelta = timedelta(days=DEAD_LETTERS_KEPT_DAYS)

    @property
    def numbering(self) -> dict[str, str]:
        """The header that numbers the records of each topic."""
        return {
            self.topics.results: "ce_sequence",
            self.topics.changes: "ce_sequence",
            self.topics.dead_letters: "x-original-offset",
        }


class _Expected(NamedTuple):
    """A record that should be in a log, and the row that it comes from.

    Of a dead letter that retention has removed only its place is `known`; of what was erased, all
    but what made it readable: the log may still hold that, or have it compacted away.
    """

    position: int
    record: OutputRecord
    row: JournalRow
    known: bool = True


async def check_outputs(
    connection: asyncpg.Connection,
    lanes: list[Lane],
    output: Output,
    marks: Bookmark,
    meter: Meter,
) -> None:
    """Compare the logs of every lane with its journal.

    Raises:
        OutputAway, KafkaError: Kafka does not answer.
        TopicMissing: the topics are not those of the database.
    """
    if not lanes:  # no consumer has ever run
        return
    await demand_topics(output.kafka, list(output.numbering), partitions_total=len(lanes))
    findings = marks.findings
    for number, lane in enumerate(lanes):
        if number >= (marks.place("outputs") or 0):
            await _LaneOutput(connection, lane.lane, output, findings).compare(meter)
            marks.reached("outputs", number + 1)
    consumers_alive = await connection.fetchval(_CONSUMERS_ALIVE)
    if findings.backlog and not consumers_alive:
        findings.add(
            "output",
            "all lanes",
            expected="everything published, as no consumer is alive",
            found=f"{findings.backlog} results are not",
        )


class _LaneOutput:
    """The comparison of one lane."""

    def __init__(
        self, connection: asyncpg.Connection, lane: int, output: Output, findings: Findings
    ) -> None:
        self._connection = connection
        self._lane = lane
        self._output = output
        self._findings = findings
        self._builder = EventBuilder(output.topics, output.event_source)
        self._compactable_before = datetime.now(UTC) - COMPACTION_LAG_MIN
        self._forgotten_before = datetime.now(UTC) - output.dead_letters_kept

    async def compare(self, meter: Meter) -> None:
        """Merge the lane's journal with its logs, from the first row to the lane's last."""
        # First the row, then the ends: what the row calls published lies before them.
        lane = await self._row()
        async with AsyncExitStack() as opened:
            logs = {
                topic: _Merge(
                    f"{topic}/{self._lane}",
                    await opened.enter_async_context(
                        open_log(self._output.kafka, topic, self._lane, header=header)
                    ),
                    self._findings,
                )
                for topic, header in self._output.numbering.items()
            }
            after = 0
            while True:
                page = await self._page(after, lane.result_sequence)
                # Looked at behind the page: if no month went till now, none is missing in it.
                cut = await self._cut()
                if cut is not None and cut["result_sequence"] > after:
                    after = cut["result_sequence"]
                    for topic, behind in self._by_topic(cut):
                        logs[topic].cut(behind)
                    continue
                if not page:
                    break
                after = page[-1].result_sequence
                await self._compare_page(page, logs, lane)
                meter.advance(len(page))
            now = await self._row()
            for topic, seen, newest in (
                (self._output.topics.results, lane.result_sequence, now.result_sequence),
                (self._output.topics.changes, lane.change_sequence, now.change_sequence),
                (self._output.topics.dead_letters, lane.next_offset - 1, now.next_offset - 1),
            ):
                await logs[topic].finish(seen=seen, newest=newest)

    async def _row(self) -> Lane:
        return Lane(*await self._connection.fetchrow(_LANE, self._lane) or ())

    async def _cut(self) -> asyncpg.Record | None:
        """The last numbers that were dropped with old months, None if none ever was."""
        return await self._connection.fetchrow(_OUTPUT_CUT, self._lane)

    def _by_topic(self, numbers: asyncpg.Record) -> Iterator[tuple[str, int]]:
        yield self._output.topics.results, numbers["result_sequence"]
        yield self._output.topics.changes, numbers["change_sequence"]
        yield self._output.topics.dead_letters, numbers["source_offset"]

    async def _page(self, after: int, last: int) -> list[JournalRow]:
        rows = await self._connection.fetch(_OUTPUT_ROWS, self._lane, after, last, PAGE_ROWS)
        return whole_units([journal_row(row) for row in rows], PAGE_ROWS)

    async def _compare_page(
        self, page: list[JournalRow], logs: Mapping[str, "_Merge"], lane: Lane
    ) -> None:
        topics = self._output.topics
        expected: dict[str, list[_Expected]] = {topic: [] for topic in logs}
        for row in page:
            for each in self._expected(row):
                expected[each.record.topic].append(each)
        for topic, merge in logs.items():
            missing = await merge.match(expected[topic])
            if topic == topics.changes:
                missing = await self._without_compacted(missing)
            for each in missing:
                if each.row.result_sequence > lane.published_result_sequence:
                    self._findings.backlog += topic == topics.results
                elif topic != topics.changes and (
                    not each.known or merge.lost_its_front(each.position)
                ):
                    self._findings.expired += 1
                else:
                    merge.tell(f"number {each.position}", "one record", "none")

    def _expected(self, row: JournalRow) -> Iterator[_Expected]:
        forgotten = row.kind == "dead_letter" and row.forward is None
        if forgotten and row.recorded_at < self._forgotten_before:
            yield _Expected(row.result_sequence, self._builder.dead_lettered(row), row)
            unknown = OutputRecord(self._output.topics.dead_letters, row.lane, None, None, [], 0)
            yield _Expected(row.source_offset, unknown, row, known=False)
            return
        try:
            records = self._builder.records(row)
        except _UNBUILDABLE:
            self._findings.add(
                "journal",
                f"lane {row.lane}, journal row {row.journal_sequence}",
                expected="a row that events can be built from",
                found="fields missing or malformed",
            )
            return
        topics = self._output.topics
        positions = {
            topics.results: row.result_sequence,
            topics.changes: row.change_sequence or 0,
            topics.dead_letters: row.source_offset,
        }
        for record in records:
            if record.topic in positions:  # a rerouted command lies among the commands
                known = record.topic not in _erased(row, topics)
                yield _Expected(positions[record.topic], record, row, known=known)

    async def _without_compacted(self, missing: list[_Expected]) -> list[_Expected]:
        old = [each for each in missing if each.row.recorded_at < self._compactable_before]
        if not old:
            return missing
        found = await self._connection.fetch(
            _SUPERSEDED,
            [each.row.organization_id for each in old],
            [each.row.candidate_id for each in old],
            [each.row.version for each in old],
        )
        superseded = {old[row["ordinal"] - 1].position for row in found}
        self._findings.compacted += len(superseded)
        return [each for each in missing if each.position not in superseded]


def _erased(row: JournalRow, topics: Topics) -> set[str]:
    """To which topics the row once wrote what an erasure has emptied since."""
    found = set()
    if row.change_sequence is not None and row.change is None and row.command_type != ERASE:
        found.add(topics.changes)
    if row.kind == "command" and b'"erased"' in (row.details or b""):
        found.add(topics.results)
    if row.kind == "dead_letter" and was_erased(unpack(row.forward or b"")):
        found.add(topics.dead_letters)
    return found


class _Merge:
    """One log against what should be in it, both in the order of their numbers."""

    def __init__(self, where: str, log: OutputLog, findings: Findings) -> None:
        self._where = where
        self._log = log
        self._findings = findings
        self._first: int | None = None
        self._last = -1
        self._behind = -1

    def cut(self, position: int) -> None:
        """Of numbers up to this one the journal tells nothing any more."""
        self._behind = position

    def tell(self, where: str, expected: str, found: str) -> None:
        """A difference in this log."""
        self._findings.add("output", f"{self._where}, {where}", expected=expected, found=found)

    def lost_its_front(self, position: int) -> bool:
        """Is this number before all that retention has left?"""
        return self._log.shortened and (self._first is None or position < self._first)

    async def match(self, expected: list[_Expected]) -> list[_Expected]:
        """Take from the log what is expected of it; what is not there comes back."""
        missing: list[_Expected] = []
        for each in expected:
            actual = await self._next(each.position)
            if actual is None:
                missing.append(each)
            else:
                self._compare(each, actual)
        return missing

    async def finish(self, *, seen: int, newest: int) -> None:
        """Nothing may be left but what came meanwhile: numbers behind `seen`, up to `newest`."""
        while (actual := await self._log.peek()) is not None:
            self._log.take()
            if actual.position is None or not seen < actual.position <= newest:
                self._pass(actual)

    async def _next(self, position: int) -> LogRecord | None:
        """The record with this number, once all that does not belong before it is told."""
        while (actual := await self._log.peek()) is not None:
            if actual.position is not None and actual.position > max(position, self._last):
                return None
            self._log.take()
            if actual.position == position and position > self._last:
                self._first = position if self._first is None else self._first
                self._last = position
                return actual
            self._pass(actual)
        return None

    def _pass(self, actual: LogRecord) -> None:
        """A record that the journal does not have: it lies behind the cut, or is a difference."""
        if actual.position is not None and self._last < actual.position <= self._behind:
            self._first = actual.position if self._first is None else self._first
            self._last = actual.position
            self._findings.behind_the_cut += 1
            return
        if actual.position is None:
            found = "a record without a number"
        elif actual.position <= self._last:
            found = f"number {actual.position} again, or out of order"
        else:
            found = f"number {actual.position}, which the journal does not have"
        self.tell(f"offset {actual.offset}", "only what the journal says", found)

    def _compare(self, expected: _Expected, actual: LogRecord) -> None:
        self._findings.rows["output records"] += 1
        record = expected.record
        same = (record.key, record.value, record.headers) == actual[2:5]
        if same or (not expected.known and record.key in (None, actual.key)):
            return
        for part in ("key", "value"):
            if getattr(record, part) != getattr(actual, part):
                self.tell(
                    f"offset {actual.offset}", f"the {part} that the journal gives", "another"
                )
        if record.headers != actual.headers:
            names = dict.fromkeys(name for name, _ in {*record.headers} ^ {*actual.headers})
            self.tell(
                f"offset {actual.offset}",
                "the headers that the journal gives",
                f"others: {', '.join(sorted(names)) or 'their order'}",
            )
