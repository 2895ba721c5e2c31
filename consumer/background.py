"""The work of bulk operations that goes on between live batches, a chunk at a time.

Each chunk is one lane transaction like that of a batch: it locks the lane's row, decides from
fresh reads, writes everything, and moves the lane's sequences. So a chunk is done once or not at
all, and whoever takes the lane goes on at the next one.
"""

import asyncio
from datetime import timedelta
from typing import NamedTuple

from consumer.apply import Attempt, merge_history
from consumer.operation_store import NextChunk, OperationStore
from consumer.store import Connection, LaneStore
from consumer.units import Place, item_rows, news_row
from contract.journal import JournalRow, timestamp_text
from contract.lanes import Hook, LaneRow, Published
from domain.bulk import cancelled_items, decide_items, differences, status_after
from domain.limits import (
    BULK_CHUNK_ITEMS_MAX,
    BULK_DIFFERENCES_MAX,
    EXPIRE_ROWS_MAX,
    EXPIRE_STEPS_MAX,
)
from domain.verdicts import BulkItem, CandidateKey, Counts
from domain.working import Working

_NOBODY = "00000000-0000-0000-0000-000000000000"


class _Settled(NamedTuple):
    """Items of a chunk and what the table of candidates gets of them."""

    items: list[BulkItem]
    work: Working | None


class Background:
    """The bulk operations of one lane. Remembers only whose turn it was."""

    def __init__(
        self,
        store: LaneStore,
        operations: OperationStore,
        *,
        retention: timedelta,
        hook: Hook,
    ) -> None:
        self._store = store
        self._operations = operations
        self._retention = retention
        self._hook = hook
        self._last_organization = _NOBODY
        self._items_max = BULK_CHUNK_ITEMS_MAX

    def take_less(self) -> None:
        """PostgreSQL is too slow for a chunk: half as many items from now on, at least one."""
        self._items_max = max(1, self._items_max // 2)

    def take_more(self) -> None:
        """It was quick enough: twice as many the next time, up to a whole chunk."""
        self._items_max = min(BULK_CHUNK_ITEMS_MAX, self._items_max * 2)

    async def expire(self, lane: int) -> None:
        """Forget operations that ended long ago, in bounded steps.

        Raises:
            StoreAway, TryAgain: not now; what is left goes another time.
        """
        for _ in range(EXPIRE_STEPS_MAX):
            if not await self._operations.expire(lane, self._retention, step=EXPIRE_ROWS_MAX):
                return

    async def prepare(
        self,
        connection: Connection,
        lane: LaneRow,
        published: Published,
        *,
        isolating: bool = False,
    ) -> Attempt:
        """Everything of a chunk's transaction but BEGIN and COMMIT; no rows if nothing is open.

        Args:
            isolating: find the candidates that the database refuses first.

        Raises:
            DataRefused: PostgreSQL does not take a candidate.
            TryAgain: a guard did not hold.
        """
        chunk = await self._operations.next_chunk(
            connection, lane.lane, after_organization=self._last_organization
        )
        if chunk is None:
            return Attempt([], lane)
        self._last_organization = chunk.operator.organization_id
        self._hook("after_chunk_read")
        chunk = _first(chunk, self._items_max)
        settled = await self._decide(connection, lane, chunk, isolating)
        counts = chunk.counts.settle(settled.items)
        self._hook("after_chunk_decide")
        writing = asyncio.ensure_future(self._write_candidates(connection, lane, chunk, settled))
        try:
            await asyncio.sleep(0)  # it is sent now, and worked on while the rows are made
            rows = _rows(lane, chunk, settled.items, counts)
        finally:
            await writing
        self._hook("after_chunk_candidates")
        await self._store.append(connection, rows)
        self._hook("after_chunk_journal")
        await self._write_operation(connection, lane, chunk, settled.items, counts)
        self._hook("after_chunk_operation")
        after = _advanced(lane, rows, published)
        await self._store.advance(connection, lane, after)
        return Attempt(rows, after)

    async def _write_candidates(
        self, connection: Connection, lane: LaneRow, chunk: NextChunk, settled: _Settled
    ) -> None:
        if settled.work is None:
            return
        _, updated = settled.work.written()
        organization_id, changes = chunk.operator.organization_id, chunk.order.changes
        await self._operations.update_alike(
            connection, organization_id, changes, updated, lane.recorded_at
        )

    async def _decide(
        self, connection: Connection, lane: LaneRow, chunk: NextChunk, isolating: bool
    ) -> _Settled:
        if chunk.status == "cancelled":
            return _Settled(cancelled_items(chunk.candidate_ids), None)
        organization_id = chunk.operator.organization_id
        keys = [(organization_id, candidate_id) for candidate_id in chunk.candidate_ids]
        if not keys:
            return _Settled([], None)
        candidates = await self._operations.candidates(
            connection, organization_id, chunk.candidate_ids
        )
        merging = zip(keys, chunk.expected_versions, strict=True)
        history = await merge_history(
            self._store,
            connection,
            candidates,
            merging if chunk.order.on_conflict == "merge" else (),
        )
        now = timestamp_text(lane.recorded_at)

        def decided(refused: frozenset[CandidateKey]) -> _Settled:
            work = Working(candidates, history, now)
            items = decide_items(
                chunk.order, organization_id, chunk.candidate_ids, chunk.expected_versions, work,
                refused,
            )  # fmt: skip
            return _Settled(items, work)

        settled = decided(frozenset())
        if isolating and settled.work is not None:
            _, updated = settled.work.written()
            refused = await self._store.refused(connection, updated, lane.recorded_at)
            settled = decided(refused)
        return settled

    async def _write_operation(
        self,
        connection: Connection,
        lane: LaneRow,
        chunk: NextChunk,
        items: list[BulkItem],
        counts: Counts,
    ) -> None:
        found = chunk.differences
        if chunk.order.dry_run:
            found = (found + differences(items))[:BULK_DIFFERENCES_MAX]
        await self._operations.insert_items(
            connection, [(chunk.operator, chunk.first_ordinal, items)]
        )
        await self._operations.advance(
            connection,
            chunk,
            counts,
            done=len(items),
            status=status_after(chunk.status, counts),
            differences=found,
            ended=not counts.pending,
            recorded_at=lane.recorded_at,
        )


def _first(chunk: NextChunk, items_max: int) -> NextChunk:
    if len(chunk.candidate_ids) <= items_max:
        return chunk
    return chunk._replace(
        candidate_ids=chunk.candidate_ids[:items_max],
        expected_versions=chunk.expected_versions[:items_max],
    )


def _rows(
    lane: LaneRow, chunk: NextChunk, items: list[BulkItem], counts: Counts
) -> list[JournalRow]:
    """The unit of the chunk, if it has items, and behind the last one the operation's end."""
    place = Place(
        lane, lane.journal_sequence + 1, lane.result_sequence + 1, lane.change_sequence + 1,
        lane.next_offset - 1,
    )  # fmt: skip
    rows: list[JournalRow] = []
    status = status_after(chunk.status, counts)
    if items:
        rows = [] if chunk.order.dry_run else item_rows(place, chunk.operator, items)
        place = place._replace(journal_sequence=place.journal_sequence + len(rows))
        rows.append(news_row(place, chunk.operator, "progress", status, counts))
    if not counts.pending:
        place = Place(
            lane, lane.journal_sequence + 1 + len(rows), lane.result_sequence + 1 + bool(items), 0,
            place.source_offset,
        )  # fmt: skip
        rows.append(news_row(place, chunk.operator, "completed", status, counts))
    return rows


def _advanced(lane: LaneRow, rows: list[JournalRow], published: Published) -> LaneRow:
    return lane._replace(
        journal_sequence=rows[-1].journal_sequence,
        result_sequence=rows[-1].result_sequence,
        change_sequence=lane.change_sequence + sum(row.change is not None for row in rows),
        published_result_sequence=max(lane.published_result_sequence, published.result_sequence),
        published_end_offset=max(lane.published_end_offset, published.end_offset),
    )
