"""`funnel replay-diff`: commands settled again by this build, each compared with what was recorded.

A window of the journal is taken transaction by transaction, as it was then: the same instant, the
same numbers, the same commands together, and the state before the window. The consumer's own code
settles them in shadow tables of one session, with the auditor's rights: nothing is emitted, and
nothing that lasts is written. From a difference on, the shadow goes on with what this build does.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain, groupby
from typing import Any, NamedTuple, cast

import asyncpg
import orjson

from audit.command_records import RECEIVED
from audit.export_file import ExportedPage
from audit.findings import Findings, Meter
from audit.replay_state import CandidateKey, ReplayState
from consumer.apply import Apply
from consumer.bulk import BulkWrites
from consumer.decode import Batch, Decoder, Item
from consumer.operation_store import OperationStore
from consumer.store import Connection, DataRefused, LaneStore, prepare_connection
from contract.journal import JournalRow
from contract.lanes import LaneRow, Published
from contract.record import Headers, record_digest, unpack
from contract.topics import Topics
from domain.commands import (
    BulkUpdateCandidates,
    CommandParser,
    ControlBulkOperation,
    EraseCandidate,
    UpdateCandidate,
)
from domain.decide import Submission

REFUSED = "refused by the database"
_COMPARED = ("kind", "outcome", "reason", "version", "previous_version", "candidate_id")
_COMPARED_OF_CHANGE = ("changed", "state", "actor")

Records = Callable[[list[JournalRow]], Awaitable[dict[int, bytes]]]
"""The packed commands behind rows of one lane, by offset."""
Pages = AsyncIterator[list[JournalRow]]


class ReplayRecord(NamedTuple):
    """A command as it was received."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides, beside the code: as a consumer of this deployment is set."""

    topics: Topics
    parser: CommandParser
    deduplication: timedelta
    chunk_items: int
    partitions_total: int


class Replay:
    """Settles transactions again, one by one, on a connection with the shadow tables."""

    def __init__(self, connection: asyncpg.Connection, rules: Rules, findings: Findings) -> None:
        self._connection = cast(Connection, connection)
        self._rules = rules
        self._findings = findings
        self._state = ReplayState(connection)
        nowhere = cast(asyncpg.Pool, None)  # all they are asked for here is given the connection
        self._apply = Apply(
            LaneStore(nowhere),
            BulkWrites(
                OperationStore(nowhere, chunk_items=rules.chunk_items), retention=timedelta(30)
            ),
            topics=rules.topics,
            deduplication=rules.deduplication,
            hook=lambda _: None,
        )

    async def run(self, pages: Pages, records: Records, meter: Meter, *, first: int) -> None:
        """Replay one lane.

        Args:
            pages: its journal rows, in order.
            first: the first result of the window: what is before it is taken as it was.
        """
        async for rows in transactions(pages):
            received = {row.source_offset for row in rows if row.kind in RECEIVED}
            if not received:  # a chunk of a bulk operation, or an erasure that goes on
                await self._state.take(rows)
                self._findings.rows["rows of the background"] += len(rows)
                for row in rows:
                    self._findings.rows[f"of the background: {row.kind}"] += 1
            else:
                await self._transaction(rows, await records(rows), first)
            meter.advance(len(rows))

    async def _transaction(
        self, rows: list[JournalRow], records: dict[int, bytes], first: int
    ) -> None:
        decoder = Decoder(
            lane=rows[0].lane,
            partitions_total=self._rules.partitions_total,
            parser=self._rules.parser,
        )
        items: dict[int, Item] = {}
        for offset, packed in records.items():
            record = ReplayRecord(offset, *unpack(packed))
            items[offset] = decoder.decode([record], offset + 1).items[0]
        left_out = await self._left_out(items)
        units = [list(unit) for _, unit in groupby(rows, key=lambda row: row.result_sequence)]

        def replayable(unit: list[JournalRow]) -> bool:
            offset = unit[-1].source_offset
            return unit[-1].kind in RECEIVED and offset in items and offset not in left_out

        for chosen, run in groupby(units, key=replayable):
            part = list(run)
            if not chosen:
                await self._state.take([row for unit in part for row in unit])
                self._findings.rows["commands left out"] += len(part)
                for closing in (unit[-1] for unit in part):
                    gone = "record gone" if closing.kind in RECEIVED else closing.kind
                    why = left_out.get(closing.source_offset, gone)
                    self._findings.rows[f"left out: {why}"] += 1
                continue
            own = [items[unit[-1].source_offset] for unit in part]
            await self._seed(own, rows[0].lane, first)
            await self._settle(part, own)

    async def _left_out(self, items: dict[int, Item]) -> dict[int, str]:
        """What depends on more than the journal tells, and why: controls, erasures of anything."""
        named = {offset: key for offset, item in items.items() if (key := _key(item)) is not None}
        erased = await self._state.erased(set(named.values()))
        left_out: dict[int, str] = {}
        for offset, item in items.items():
            command = _command(item)
            if isinstance(command, ControlBulkOperation):
                left_out[offset] = "bulk-operation.control.v1"
            elif isinstance(command, EraseCandidate):
                left_out[offset] = "candidate.erase.v1"
            elif named.get(offset) in erased:
                left_out[offset] = "candidate erased since"
        return left_out

    async def _seed(self, items: Sequence[Item], lane: int, first: int) -> None:
        keys: set[CandidateKey] = set()
        merging: set[CandidateKey] = set()
        organizations: set[str] = set()
        for item in items:
            command, key = _command(item), _key(item)
            if key is not None:
                keys.add(key)
            if isinstance(command, UpdateCandidate) and command.on_conflict == "merge":
                merging.add((command.organization_id, command.candidate_id))
            if isinstance(command, BulkUpdateCandidates):
                if command.candidate_ids is None:
                    organizations.add(command.organization_id)
                else:
                    of_bulk = {(command.organization_id, each) for each in command.candidate_ids}
                    keys |= of_bulk
                    merging |= of_bulk if command.on_conflict == "merge" else set()
        identities = [item.meaning.key for item in items if isinstance(item.meaning, Submission)]
        await self._state.seed(
            lane, first, keys=keys, merging=merging, organizations=organizations,
            identities=identities,
        )  # fmt: skip

    async def _settle(self, units: list[list[JournalRow]], items: list[Item]) -> None:
        """Some units of one transaction; where the database refuses data, each by itself."""
        recorded = [row for unit in units for row in unit]
        try:
            async with self._connection.transaction():
                made = await self._made(recorded, items)
        except DataRefused:
            if len(items) > 1:
                for unit, item in zip(units, items, strict=True):
                    await self._settle([unit], [item])
                return
            made = []
        self._findings.rows["commands"] += len(items)
        if not made:
            if b"apply_failed" not in (recorded[-1].details or b""):
                self._tell(recorded[-1], "outcome", recorded[-1].outcome, REFUSED)
            return
        told = {_place(row): row for row in made}
        for row in recorded:
            self._compare(row, told.pop(_place(row), None))
        for row in told.values():
            self._tell(row, "row", "none", row.outcome or row.kind)

    async def _made(self, recorded: list[JournalRow], items: list[Item]) -> list[JournalRow]:
        first = recorded[0]
        changes = next((row.change_sequence for row in recorded if row.change_sequence), 1) - 1
        await self._state.stand(
            first, partitions_total=self._rules.partitions_total, changes=changes
        )
        lane = LaneRow(
            first.lane, self._rules.partitions_total, "", "", 0, first.source_offset, None, None,
            None, first.journal_sequence - 1, first.result_sequence - 1, changes, 0, 0,
            first.recorded_at,
        )  # fmt: skip
        batch = Batch(
            items, items[-1].offset + 1, record_digest(items[-1].record),
            any(isinstance(_command(item), BulkUpdateCandidates) for item in items),
        )  # fmt: skip
        attempt = await self._apply.prepare(self._connection, lane, Published(0, 0), batch=batch)
        return attempt.rows

    def _compare(self, recorded: JournalRow, made: JournalRow | None) -> None:
        if made is None:
            self._tell(recorded, "row", recorded.outcome or recorded.kind, "none")
            return
        for name in _COMPARED:
            if getattr(recorded, name) != getattr(made, name):
                self._tell(recorded, name, getattr(recorded, name), getattr(made, name))
        if _loaded(recorded.details) != _loaded(made.details):
            names = _differing(_loaded(recorded.details), _loaded(made.details))
            self._tell(recorded, "details", f"its {', '.join(names)}", "others")
        was, is_now = _loaded(recorded.change), _loaded(made.change)
        for name in _COMPARED_OF_CHANGE:
            if was.get(name) != is_now.get(name):
                fields = _differing(was.get(name), is_now.get(name))
                self._tell(recorded, name, f"its {', '.join(fields)}", "others")

    def _tell(self, row: JournalRow, name: str, expected: object, found: object) -> None:
        where = f"lane {row.lane}, offset {row.source_offset}, result {row.result_sequence}"
        if row.command_id is not None:
            where += f", command {row.command_id}"
        self._findings.add("replay", f"{where}, {name}", expected=expected, found=found)


async def open_replay(database_url: str) -> asyncpg.Connection:
    """A connection with shadow tables and the auditor's rights."""
    connection = await asyncpg.connect(
        database_url,
        timeout=10,
        command_timeout=600,
        server_settings={
            "role": "funnel_audit",
            "application_name": "funnel replay-diff",
            "timezone": "UTC",
            "jit": "off",
        },
    )
    await prepare_connection(connection)
    await ReplayState(connection).create()
    return connection


async def replay_export(replay: Replay, chunks: Iterator[ExportedPage], meter: Meter) -> None:
    """Replay an export that has the commands, lane by lane."""
    head = next(chunks, None)
    while head is not None:
        lane = _ExportedLane(head, chunks)
        await replay.run(lane.pages(), lane.records, meter, first=head[0][0].result_sequence)
        head = lane.following


class _ExportedLane:
    """The chunks of one lane, and the first one of the next."""

    def __init__(self, head: ExportedPage, chunks: Iterator[ExportedPage]) -> None:
        self._head = head
        self._chunks = chunks
        self._commands: dict[int, bytes] = {}
        self.following: ExportedPage | None = None

    async def pages(self) -> Pages:
        for rows, commands in chain([self._head], self._chunks):
            if rows[0].lane != self._head[0][0].lane:
                self.following = rows, commands
                return
            self._commands |= commands
            yield rows

    async def records(self, rows: list[JournalRow]) -> dict[int, bytes]:
        offsets = {row.source_offset for row in rows} & self._commands.keys()
        return {offset: self._commands.pop(offset) for offset in offsets}


async def transactions(pages: Pages) -> AsyncIterator[list[JournalRow]]:
    """The rows of a lane, those of one instant together: no two transactions of a lane share it
    unless the clock stood still between them, and then they are as good as one."""
    waiting: list[JournalRow] = []
    async for rows in pages:
        for row in rows:
            if waiting and row.recorded_at != waiting[0].recorded_at:
                yield waiting
                waiting = []
            waiting.append(row)
    if waiting:
        yield waiting


def _command(item: Item) -> Any:
    return item.meaning.command if isinstance(item.meaning, Submission) else None


def _key(item: Item) -> CandidateKey | None:
    command = _command(item)
    if command is None or command.candidate_id is None:
        return None
    return command.organization_id, command.candidate_id


def _place(row: JournalRow) -> tuple[int, str | None]:
    """Which row is which: the result it belongs to, and of a bulk operation the candidate."""
    return row.result_sequence, row.candidate_id if row.kind == "item" else None


def _loaded(text: bytes | None) -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(text or b"{}")
    return loaded


def _differing(was: Any, is_now: Any) -> Iterable[str]:
    """The names of members that differ: no values, which may be personal data."""
    if not isinstance(was, dict) or not isinstance(is_now, dict):
        return ["value"]
    return [name for name in {**was, **is_now} if was.get(name) != is_now.get(name)]
