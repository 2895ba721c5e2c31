"""Bulk operations in PostgreSQL: what a lane's transactions read and write of them.

Errors are translated by the transaction in which these statements run (`consumer.store`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import asyncpg
import orjson

from consumer.filter_sql import conditions
from consumer.sqlfiles import statement
from consumer.store import (
    Connection,
    answered_within,
    array_literal,
    asked,
    demand_rows,
    plain_literal,
    refusing,
    state_of,
)
from domain.candidate import BulkChanges, CandidateState
from domain.filters import CandidateFilter
from domain.limits import BULK_FILTER_ITEMS_MAX
from domain.outcomes import OperationStatus
from domain.verdicts import BulkItem, CandidateKey, Counts, Operation, Order

FILTER_WITHIN = timedelta(seconds=4)
"""A filter that takes longer is refused: the lane and its other organizations wait meanwhile."""


ItemColumns: TypeAlias = tuple[str, str, int, str, str, str, list[bytes | None] | None]
"""Items of one operation from an ordinal on: ids, outcomes, versions, and what failures tell."""


class Found(NamedTuple):
    """Candidates that there are, and by id where each stands in its table."""

    states: dict[CandidateKey, CandidateState]
    places: dict[str, str]


NONE_FOUND = Found({}, {})


class Alike(NamedTuple):
    """So many candidates that get the same changes, as PostgreSQL takes them."""

    total: int
    columns: tuple[Any, ...]


class Operator(NamedTuple):
    """Which command an operation does, and for whom."""

    organization_id: str
    operation_id: str
    command_id: str
    command_source: str
    actor: str
    traceparent: str | None
    tracestate: str | None
    type: str

    @property
    def key(self) -> CandidateKey:
        """The operation's organization and id."""
        return self.organization_id, self.operation_id


class NextChunk(NamedTuple):
    """An operation whose turn it is. `candidate_ids` are empty where only its end is left."""

    operator: Operator
    order: Order
    status: OperationStatus
    counts: Counts
    differences: list[dict[str, Any]]
    first_ordinal: int
    candidate_ids: list[str]
    expected_versions: list[int | None]

    def part(self, start: int, stop: int) -> "NextChunk":
        """As if it had only these of its items, as a slice counts them."""
        return self._replace(
            first_ordinal=self.first_ordinal + start,
            candidate_ids=self.candidate_ids[start:stop],
            expected_versions=self.expected_versions[start:stop],
        )


class OperationStore:
    """Statements about bulk operations; `chunk_items` is how many items a chunk has."""

    def __init__(self, pool: asyncpg.Pool, *, chunk_items: int) -> None:
        self._pool = pool
        self._chunk_items = chunk_items

    async def named(
        self, connection: Connection, keys: Iterable[CandidateKey], *, expired: datetime
    ) -> dict[CandidateKey, Operation]:
        """The operations with these organizations and ids; `expired`: ended before this."""
        organizations, ids = zip(*keys, strict=True)
        rows = await connection.fetch(_OPERATIONS, organizations, ids, expired)
        return {
            (row[0], row[1]): Operation(
                Order(orjson.loads(row[2]), row[3], row[4]),
                row[5],
                Counts(*row[6:14]),
                row["ended"],
                row["expired"],
            )
            for row in rows
        }

    async def insert(
        self,
        connection: Connection,
        operator: Operator,
        order: Order,
        counts: Counts,
        *,
        lane: int,
        recorded_at: datetime,
        status: OperationStatus,
        parent_id: str | None = None,
        chosen: CandidateFilter | None = None,
        differences: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """A new operation; one that is `completed` has ended already."""
        await connection.execute(
            _INSERT_OPERATION,
            operator.organization_id, operator.operation_id, lane, parent_id, operator.command_id,
            operator.command_source, operator.actor, operator.traceparent, operator.tracestate,
            operator.type, orjson.dumps(order.changes),
            None if chosen is None else orjson.dumps(chosen), order.on_conflict, order.dry_run,
            status, *counts, counts.total - counts.pending,
            None if differences is None else orjson.dumps(differences), recorded_at,
            recorded_at if status == "completed" else None,
        )  # fmt: skip

    async def insert_items(self, connection: Connection, done: Iterable[ItemColumns]) -> None:
        """What became of items of operations, as `item_columns` tells it."""
        for columns in done:
            await connection.execute(_INSERT_ITEMS, *columns)

    async def candidates(
        self, connection: Connection, organization_id: str, candidate_ids: Iterable[str]
    ) -> Found:
        """The candidates of one organization that there are."""
        rows = await connection.fetch(
            _CANDIDATES_IN_BULK, organization_id, plain_literal(candidate_ids)
        )
        return _found(organization_id, rows)

    async def chunk_at(
        self, operator: Operator, first_ordinal: int
    ) -> tuple[list[str], list[int | None], Found]:
        """A chunk's candidate ids, the versions expected of them, and those that there are, read
        beside the lane's transaction; all empty if there is no chunk."""
        at = *operator.key, first_ordinal
        async with asked(self._pool) as connection:
            chunk = await connection.fetchrow(_CHUNK_AT, *at)
            if chunk is None:
                return [], [], NONE_FOUND
            rows = await connection.fetch(_CANDIDATES_OF_CHUNK, *at)
        return *_items(chunk), _found(operator.organization_id, rows)

    async def update_alike(
        self, connection: Connection, alike: Alike, recorded_at: datetime
    ) -> None:
        """Candidates that get the same changes, each guarded by the version that was seen.

        Raises:
            TryAgain: a candidate is not as it was seen.
            DataRefused: PostgreSQL does not take the data.
        """
        if not alike.total:
            return
        with refusing():
            done = await connection.execute(_UPDATE_IN_BULK, *alike.columns, recorded_at)
            demand_rows(done, alike.total)

    async def admit_ids(
        self,
        connection: Connection,
        operator: Operator,
        candidate_ids: Sequence[str],
        expected_versions: Mapping[str, int] | None,
    ) -> None:
        await connection.executemany(
            _INSERT_CHUNK, list(self._chunks(operator, candidate_ids, expected_versions or {}))
        )

    def _chunks(
        self, operator: Operator, candidate_ids: Sequence[str], expected: Mapping[str, int]
    ) -> Iterator[tuple[Any, ...]]:
        for first in range(0, len(candidate_ids), self._chunk_items):
            ids = candidate_ids[first : first + self._chunk_items]
            versions = [expected.get(each) for each in ids] if expected else None
            yield operator.organization_id, operator.operation_id, first, ids, versions

    async def admit_filter(
        self,
        connection: Connection,
        operator: Operator,
        chosen: CandidateFilter,
        expected_versions: Mapping[str, int] | None,
    ) -> int:
        """How many candidates match; they are admitted unless they are too many.

        Raises:
            DataRefused: it takes too long to find out.
        """
        sql, arguments = conditions(chosen, first_argument=6)
        # By bitmap, in the order of the table, then sorted in memory.
        async with answered_within(
            connection, FILTER_WITHIN, "filter", enable_indexscan="off", work_mem="'64MB'"
        ):
            total = await connection.fetchval(
                _ADMIT_FILTER.replace("{conditions}", sql),
                operator.organization_id,
                operator.operation_id,
                self._chunk_items,
                BULK_FILTER_ITEMS_MAX,
                expected_versions or None,
                *arguments,
            )
        return int(total)

    async def admit_failed(self, connection: Connection, operator: Operator, parent_id: str) -> int:
        """How many failed items are admitted: retention may have taken some of them."""
        total = await connection.fetchval(
            _ADMIT_FAILED,
            operator.organization_id,
            operator.operation_id,
            parent_id,
            self._chunk_items,
        )
        return int(total)

    async def steer(
        self,
        connection: Connection,
        key: CandidateKey,
        status: OperationStatus,
        recorded_at: datetime,
    ) -> None:
        await connection.execute(_STEER_OPERATION, *key, status, recorded_at)

    async def next_chunk(
        self, connection: Connection, lane: int, *, after_organization: str
    ) -> NextChunk | None:
        """What the lane has to do next; organizations take turns."""
        row = await connection.fetchrow(_NEXT_CHUNK, lane, after_organization)
        return None if row is None else _chunk(row)

    async def chunk_up_to(
        self, connection: Connection, key: CandidateKey, *, pending: int
    ) -> NextChunk | None:
        """The items of one operation after which so many are pending, however they are divided.

        Args:
            key: its organization and id.

        Returns:
            None if there is no such operation, if it has ended, or if no more are pending now.
        """
        now_pending = await connection.fetchval(_PENDING_ITEMS, *key)
        if now_pending is None or now_pending < pending:
            return None
        done = now_pending - pending
        await connection.execute(_JOIN_CHUNKS, *key, done)
        return _chunk(await connection.fetchrow(_FIRST_CHUNK, *key)).part(0, done)

    async def advance(
        self,
        connection: Connection,
        chunk: NextChunk,
        counts: Counts,
        *,
        done: int,
        status: OperationStatus,
        differences: Sequence[Mapping[str, Any]],
        ended: bool,
        recorded_at: datetime,
    ) -> None:
        """The operation once the first `done` items of the chunk are settled."""
        await connection.execute(
            _ADVANCE_OPERATION, chunk.operator.organization_id, chunk.operator.operation_id,
            status, *counts[1:], counts.total - counts.pending,
            orjson.dumps(differences) if chunk.order.dry_run else None, recorded_at,
            recorded_at if ended else None, chunk.first_ordinal, done,
        )  # fmt: skip

    async def expire(self, lane: int, retention: timedelta, *, step: int) -> int:
        """Forget some of what ended longer ago; how many rows went."""
        async with asked(self._pool) as connection:
            return int(await connection.fetchval(_EXPIRE, lane, retention, step) or 0)


def _found(organization_id: str, rows: Sequence[asyncpg.Record]) -> Found:
    return Found(
        {(organization_id, row[0]): state_of(organization_id, row) for row in rows},
        {row[0]: row[-1] for row in rows},
    )


def alike(
    organization_id: str,
    changes: BulkChanges,
    updated: Sequence[tuple[int, CandidateState]],
    places: Mapping[str, str],
) -> Alike:
    """Candidates that got the same changes, with the versions that were seen, and where."""
    tags = [array_literal(state["tags"]) for _, state in updated] if "tags" in changes else None
    columns = (
        organization_id, plain_literal(state["candidate_id"] for _, state in updated),
        array_literal([places[state["candidate_id"]] for _, state in updated]),
        plain_literal(seen for seen, _ in updated), tags, changes.get("status"),
        "pipeline_stage" in changes, changes.get("pipeline_stage"), "rating" in changes,
        changes.get("rating"), "source" in changes, changes.get("source"),
    )  # fmt: skip
    return Alike(len(updated), columns)


def item_columns(operator: Operator, first_ordinal: int, items: Sequence[BulkItem]) -> ItemColumns:
    """What became of items, as PostgreSQL takes it.

    Args:
        first_ordinal: that of the first of them.
    """
    details = [_details(item) for item in items]
    return (
        operator.organization_id,
        operator.operation_id,
        first_ordinal,
        plain_literal(item.candidate_id for item in items),
        plain_literal(item.outcome for item in items),
        plain_literal(_version(item) for item in items),
        details if any(details) else None,
    )


def _items(row: Any) -> tuple[list[str], list[int | None]]:
    ids = row["candidate_ids"] or []
    return ids, row["expected_versions"] or [None] * len(ids)


def _chunk(row: Any) -> NextChunk:
    return NextChunk(
        Operator(*row[:8]),
        Order(orjson.loads(row["changes"]), row["on_conflict"], row["dry_run"]),
        row["status"],
        Counts(*row[12:20]),
        orjson.loads(row["differences"] or b"[]"),
        row["first_ordinal"] or 0,
        *_items(row),
    )


def _details(item: BulkItem) -> bytes | None:
    """What a failure tells."""
    verdict = item.verdict
    if verdict.outcome != "rejected":
        return None
    return orjson.dumps({"reason": verdict.reason, **(verdict.details or {})})


def _version(item: BulkItem) -> object:
    """That the candidate is at now, as far as is known."""
    return item.verdict.version or (item.verdict.details or {}).get("current_version")


_OPERATIONS = statement("operations")
_INSERT_OPERATION = statement("insert_operation")
_INSERT_CHUNK = statement("insert_chunk")
_INSERT_ITEMS = statement("insert_items")
_CANDIDATES_IN_BULK = statement("candidates_in_bulk")
_CHUNK_AT = statement("chunk_at")
_CANDIDATES_OF_CHUNK = statement("candidates_of_chunk")
_UPDATE_IN_BULK = statement("update_in_bulk")
_ADMIT_FILTER = statement("admit_filter")
_ADMIT_FAILED = statement("admit_failed")
_STEER_OPERATION = statement("steer_operation")
_NEXT_CHUNK = statement("next_chunk")
_FIRST_CHUNK = statement("first_chunk")
_JOIN_CHUNKS = statement("join_chunks")
_PENDING_ITEMS = statement("pending_items")
_ADVANCE_OPERATION = statement("advance_operation")
_EXPIRE = statement("expire_operations")
