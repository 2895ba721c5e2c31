"""What a lane settles: what it polled, and between batches a chunk or a step of an erasure."""

import asyncio
from datetime import timedelta
from functools import partial

from consumer.apply import Apply, BatchTooLong
from consumer.background import Background
from consumer.bulk import parts, refusable
from consumer.decode import Batch, DeadLetter, cut
from consumer.erasing import Erasing
from consumer.ports import Outbox
from consumer.source import FETCH_WAIT
from consumer.store import DataRefused
from consumer.transactions import LaneTransactions, Prepare, TransactionTooSlow
from contract.lanes import LaneRow
from contract.spans import OpenSpan
from domain.limits import (
    BULK_ALONE_TRIES_MAX,
    BULK_CHUNKS_BESIDE,
    CHUNK_TURNS_MISSED_MAX,
    WHOLE_BATCH_TRIES_MAX,
)

_NO_WAIT, _SHORT_WAIT = timedelta(0), timedelta(milliseconds=5)
"""While chunks are to be done: now, or once the publisher takes one without blocking the lane."""


class Settle:
    """The work of one lane, by its transactions. Remembers what may be open between batches."""

    def __init__(
        self,
        transactions: LaneTransactions,
        *,
        apply: Apply,
        background: Background,
        erasing: Erasing,
        outbox: Outbox,
        stopping: asyncio.Event,
        open_span: OpenSpan,
    ) -> None:
        self._transactions = transactions
        self._apply = apply
        self._background = background
        self._erasing = erasing
        self._outbox = outbox
        self._stopping = stopping
        self._open_span = open_span
        self._work_open = True  # whether any is, only the tables know
        self._turns_missed = 0
        self._quiet_chunks = BULK_CHUNKS_BESIDE

    def fetch_wait(self, row: LaneRow) -> timedelta:
        """How long a poll may take: no longer than what else there is to do may wait."""
        if not self._work_open:
            return FETCH_WAIT
        return _NO_WAIT if self._output_has_room(row) else _SHORT_WAIT

    @property
    def _beside(self) -> bool:
        """Do live commands come?"""
        return self._quiet_chunks < BULK_CHUNKS_BESIDE

    def _output_has_room(self, row: LaneRow) -> bool:
        """Would the events of a chunk keep nobody waiting? Beside live commands nothing is left
        to publish then: a command that comes now waits for one chunk, in both places."""
        if self._beside:
            return self._outbox.published.result_sequence >= row.result_sequence
        return self._outbox.takes

    async def polled(self, row: LaneRow, batch: Batch) -> LaneRow:
        """All of a batch, unless the lane row turns out to be elsewhere."""
        with self._open_span(
            f"settle {row.commands_topic}",
            "consumer",
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "settle",
                "messaging.operation.type": "process",
                "messaging.destination.name": row.commands_topic,
                "messaging.destination.partition.id": str(row.lane),
                "messaging.batch.message_count": len(batch.items),
            },
            links=(item.traceparent for item in batch.items),
        ):
            beside = self._work_open
            for part in parts(batch):
                row = await self._settle(row, part)
                if row.next_offset != part.next_offset:
                    break
        self._turns_missed += 1
        if beside:
            self._quiet_chunks = 0
        self._background.make_way()
        return row

    async def between(self, row: LaneRow) -> LaneRow:
        """A chunk of the bulk operations that are open, if any is; live batches come between."""
        row = await self._erase(row)
        if not self._work_open or self._stopping.is_set():
            return row
        if not self._output_has_room(row) and self._turns_missed < CHUNK_TURNS_MISSED_MAX:
            return row
        self._turns_missed = 0
        self._quiet_chunks += 1
        try:
            after = await self._settle_chunk(row)
        except TransactionTooSlow:
            self._background.take_less()
            return row
        if not self._beside:
            self._background.take_more()
        self._work_open = after.journal_sequence != row.journal_sequence
        return after

    async def _settle_chunk(self, row: LaneRow) -> LaneRow:
        prepare = self._background.prepare
        try:
            return await self._run(row, prepare, too_slow_after=WHOLE_BATCH_TRIES_MAX)
        except DataRefused:
            isolating = partial(prepare, isolating=True)
            return await self._run(row, isolating, too_slow_after=WHOLE_BATCH_TRIES_MAX)

    async def _erase(self, row: LaneRow) -> LaneRow:
        """A step of the erasures that are open, if any is."""
        if not self._erasing.due or self._stopping.is_set():
            return row
        prepare = self._erasing.prepare
        try:
            after = await self._run(row, prepare, too_slow_after=WHOLE_BATCH_TRIES_MAX)
        except (TransactionTooSlow, DataRefused):
            self._erasing.take_less()
            return row
        self._erasing.take_more()
        return after

    async def _settle(self, row: LaneRow, batch: Batch) -> LaneRow:
        """Apply a batch; halve it where PostgreSQL refuses data or cannot do all of it in time."""
        try:
            return await self._settle_batch(row, batch)
        except (DataRefused, BatchTooLong, TransactionTooSlow) as error:
            if len(batch.items) == 1:
                return await self._settle_refused(row, batch, error)
        first, rest = cut(batch, len(batch.items) // 2)
        row = await self._settle(row, first)
        if row.next_offset != first.next_offset:
            return row
        return await self._settle(row, rest)

    async def _settle_refused(self, row: LaneRow, batch: Batch, error: Exception) -> LaneRow:
        """A command alone: candidates of a bulk are set apart, or else it is a dead letter."""
        item = batch.items[0]
        if refusable(item) and isinstance(error, DataRefused):
            try:
                return await self._settle_batch(row, batch, isolating=True)
            except (DataRefused, TransactionTooSlow) as again:
                error = again
        slow = isinstance(error, TransactionTooSlow)
        why = "takes too long for it" if slow else f"refuses it ({error})"
        refused = DeadLetter("apply_failed", f"The database {why}.")
        return await self._settle_batch(row, batch._replace(items=[item._replace(meaning=refused)]))

    async def _settle_batch(
        self, row: LaneRow, batch: Batch, *, isolating: bool = False
    ) -> LaneRow:
        prepare = partial(self._apply.prepare, batch=batch, isolating=isolating)
        too_slow_after: int | None = WHOLE_BATCH_TRIES_MAX
        if len(batch.items) == 1:
            too_slow_after = BULK_ALONE_TRIES_MAX if refusable(batch.items[0]) else None
        return await self._run(row, prepare, too_slow_after=too_slow_after)

    async def _run(self, row: LaneRow, prepare: Prepare, *, too_slow_after: int | None) -> LaneRow:
        row, attempt = await self._transactions.run(row, prepare, too_slow_after=too_slow_after)
        if attempt is not None:
            self._work_open = self._work_open or attempt.opens
            if attempt.erases:
                self._erasing.begin()
        return row

    async def expire(self, lane: int) -> None:
        """Forget bulk operations that ended long ago.

        Raises:
            StoreAway, TryAgain: not now; what is left goes another time.
        """
        await self._background.expire(lane)
