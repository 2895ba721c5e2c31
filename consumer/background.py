"""The work of bulk operations that goes on between live batches, a chunk at a time.

Each chunk is one lane transaction like that of a batch: it locks the lane's row, decides from
fresh reads, writes everything, and moves the lane's sequences. So a chunk is done once or not at
all, and whoever takes the lane goes on at the next one.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog

from consumer.apply import Attempt, merge_ranges, versions_total
from consumer.decide_ahead import DecideAhead, Decided, decided
from consumer.operation_store import NONE_FOUND, NextChunk, OperationStore, item_columns
from consumer.store import NOBODY, Connection, DataRefused, HistoryRange, LaneStore
from consumer.units import Place, item_rows, news_row
from contract.journal import JournalRow, timestamp_text
from contract.lanes import Hook, LaneRow, Published
from domain.bulk import cancelled_items, differences, status_after
from domain.candidate import CandidateState
from domain.limits import (
    BATCH_BYTES_MAX,
    BULK_CHUNK_ITEMS_BESIDE,
    BULK_CHUNK_ITEMS_MAX,
    BULK_DIFFERENCES_MAX,
    EXPIRE_ROWS_MAX,
    EXPIRE_STEPS_MAX,
    MERGE_HISTORY_VERSIONS_MAX,
)
from domain.verdicts import BulkItem, CandidateKey, Counts

log = structlog.get_logger("consumer")


class Background:
    """The bulk operations of one lane. Remembers whose turn it was, and what it decided ahead."""

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
        self._last: CandidateKey = NOBODY, NOBODY  # organization and operation
        self._items_max = BULK_CHUNK_ITEMS_BESIDE
        self._items_fit = BULK_CHUNK_ITEMS_MAX
        self._ahead = DecideAhead(operations)

    def take_less(self) -> None:
        """PostgreSQL is too slow for a chunk: half as many items from now on, at least one."""
        self._items_max = max(1, self._items_max // 2)

    def make_way(self) -> None:
        """Live commands come: they shall not wait for a whole chunk."""
        self._items_max = min(BULK_CHUNK_ITEMS_BESIDE, self._items_max)

    def take_more(self) -> None:
        """It was quick enough: twice as many the next time, up to a whole chunk, or to as many as
        fit into the bytes of a batch if they are like the last."""
        self._items_max = min(BULK_CHUNK_ITEMS_MAX, self._items_max * 2, self._items_fit)

    def stop(self) -> None:
        """The lane ends: nothing goes on for it."""
        self._ahead.drop()

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
        before = self._last
        chunk = await self._operations.next_chunk(
            connection, lane.lane, after_organization=before[0]
        )
        if chunk is None:
            self._ahead.drop()
            return Attempt([], lane)
        self._last = chunk.operator.key
        self._hook("after_chunk_read")
        chunk = chunk.part(0, min(self._items_max, chunk.counts.pending))
        if isolating:
            self._ahead.drop()
        try:
            attempt = await self.settle(
                connection, lane, published, chunk,
                ready=await self._ahead.take(lane, chunk),
                # Where operations take turns, the next chunk is another's.
                ahead=self._items_max == BULK_CHUNK_ITEMS_MAX and self._last == before,
                isolating=isolating,
            )  # fmt: skip
        except DataRefused:
            self._last = before  # its turn again: which candidate is it?
            raise
        self._ahead.holds_at(attempt.after)
        self._items_fit = _fitting(attempt.rows)
        return attempt

    async def settle(
        self,
        connection: Connection,
        lane: LaneRow,
        published: Published,
        chunk: NextChunk,
        *,
        ready: Decided | None = None,
        ahead: bool = False,
        isolating: bool,
    ) -> Attempt:
        """All that `prepare` does with the chunk it has chosen.

        Args:
            ready: what becomes of its items, if that was decided already.
            ahead: decide the next chunk meanwhile.
        """
        chunk = _whole(lane, chunk)
        settled = ready or await self._decide(connection, lane, chunk, isolating)
        counts = chunk.counts.settle(settled.items)
        self._hook("after_chunk_decide")
        if ahead and counts.pending:
            self._ahead.begin(chunk)
        found = chunk.differences
        if chunk.order.dry_run:
            found = (found + differences(settled.items))[:BULK_DIFFERENCES_MAX]
        updating = asyncio.ensure_future(
            self._operations.update_alike(connection, settled.updates, lane.recorded_at)
        )
        try:
            await asyncio.sleep(0)  # it is sent now, and worked on while the rest is made
            items = settled.at(timestamp_text(lane.recorded_at))
            rows = _rows(lane, chunk, items, counts)
            done = item_columns(chunk.operator, chunk.first_ordinal, items)
            done_total = len(items)
            del ready, settled, items  # to free so much takes milliseconds: now, too
        finally:
            await updating
        self._hook("after_chunk_candidates")
        await self._operations.insert_items(connection, [done])
        await self._store.append(connection, rows)
        self._hook("after_chunk_journal")
        await self._operations.advance(
            connection,
            chunk,
            counts,
            done=done_total,
            status=status_after(chunk.status, counts),
            differences=found,
            ended=not counts.pending,
            recorded_at=lane.recorded_at,
        )
        self._hook("after_chunk_operation")
        after = _advanced(lane, rows, published)
        await self._store.advance(connection, lane, after)
        return Attempt(rows, after)

    async def _decide(
        self, connection: Connection, lane: LaneRow, chunk: NextChunk, isolating: bool
    ) -> Decided:
        now = timestamp_text(lane.recorded_at)
        if chunk.status == "cancelled":
            nothing = decided(chunk.part(0, 0), NONE_FOUND, {}, now)
            return nothing._replace(items=cancelled_items(chunk.candidate_ids))
        if not chunk.candidate_ids:
            return decided(chunk, NONE_FOUND, {}, now)
        candidates = await self._operations.candidates(
            connection, chunk.operator.organization_id, chunk.candidate_ids
        )
        chunk, ranges = _within_history(chunk, candidates.states)
        history = await self._store.history(connection, ranges) if ranges else {}
        settled = decided(chunk, candidates, history, now)
        if isolating:
            _, updated = settled.work.written()
            refused = await self._store.refused(connection, updated, lane.recorded_at)
            settled = decided(chunk, candidates, history, now, refused)
        return settled


def _whole(lane: LaneRow, chunk: NextChunk) -> NextChunk:
    """Where items are missing that must be there, no chunk can settle them: they are cancelled."""
    pending = chunk.counts.pending
    if chunk.candidate_ids or not pending:
        return chunk
    log.error(
        "items of a bulk operation are missing", action="operation_items_missing", lane=lane.lane,
        operation_id=chunk.operator.operation_id, items=pending,
    )  # fmt: skip
    counts = chunk.counts._replace(cancelled=chunk.counts.cancelled + pending, pending=0)
    return chunk._replace(status="cancelled", counts=counts)


def _fitting(rows: list[JournalRow]) -> int:
    """How many items like these make a unit as large as a batch may be."""
    sizes = [len(row.change) for row in rows if row.change is not None]
    return max(1, BATCH_BYTES_MAX * len(sizes) // sum(sizes)) if sizes else BULK_CHUNK_ITEMS_MAX


def _within_history(
    chunk: NextChunk, candidates: Mapping[CandidateKey, CandidateState]
) -> tuple[NextChunk, list[HistoryRange]]:
    """As much of it as merges with a history that one transaction may read, and that history."""
    if chunk.order.on_conflict != "merge":
        return chunk, []
    while True:
        keys = [(chunk.operator.organization_id, each) for each in chunk.candidate_ids]
        ranges = merge_ranges(candidates, zip(keys, chunk.expected_versions, strict=True))
        if versions_total(ranges) <= MERGE_HISTORY_VERSIONS_MAX:
            return chunk, ranges
        chunk = chunk.part(0, len(keys) // 2)


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
    return lane.noting(published)._replace(
        journal_sequence=rows[-1].journal_sequence,
        result_sequence=rows[-1].result_sequence,
        change_sequence=lane.change_sequence + sum(row.change is not None for row in rows),
    )
