"""A lane: poll → decode → settle → offer, for one partition and one epoch of ownership."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import timedelta

import structlog

from consumer.apply import Apply
from consumer.back_off import BackOff, LaneStopped
from consumer.background import Background
from consumer.decode import Decoder
from consumer.erasing import Erasing
from consumer.held import Held
from consumer.metrics import LaneMetrics
from consumer.partitions import JournalPartitions
from consumer.ports import Outbox
from consumer.settle import Settle
from consumer.source import Source, SourceAway, partitions_changed
from consumer.store import (
    LaneStore,
    StoreAway,
    TryAgain,
)
from consumer.transactions import LaneTransactions
from contract.lanes import Hook, LaneRow
from contract.spans import OpenSpan
from domain.limits import (
    WATCHDOG_REBUILDS_MAX,
)

_HOUSEKEEPING = timedelta(seconds=5)
_ASK_EVERY = timedelta(seconds=5)
"""How long an idle lane may not know that Kafka is away."""
_DRAIN_WITHIN = timedelta(seconds=5)
_STOP_WITHIN = timedelta(seconds=10)
"""From the wish to stop: a batch in hand and the drain behind it, unless a server hangs."""
_CANCEL_AGAIN = timedelta(seconds=3)

log = structlog.get_logger("consumer")


class LaneStuck(Exception):
    """No progress with real lag, again after the client was rebuilt: the process must restart."""


class Lane:
    """Runs one lane until it is asked to stop or ends by an exception."""

    def __init__(
        self,
        *,
        lane: int,
        owner_epoch: int,
        source: Callable[[], Source],
        decoder: Decoder,
        apply: Apply,
        background: Background,
        erasing: Erasing,
        store: LaneStore,
        partitions: JournalPartitions,
        outbox: Outbox,
        metrics: LaneMetrics,
        turns: asyncio.Semaphore,
        watchdog: timedelta,
        hook: Hook,
        open_span: OpenSpan,
    ) -> None:
        self.lane = lane
        self.owner_epoch = owner_epoch
        self._new_source = source
        self._source = source()
        self._decoder = decoder
        self._background = background
        self._store = store
        self._outbox = outbox
        self._metrics = metrics
        self._watchdog = watchdog
        self._hook = hook
        self._back_off = BackOff(lane)
        self._transactions = LaneTransactions(
            lane=lane, owner_epoch=owner_epoch, store=store, partitions=partitions, outbox=outbox,
            metrics=metrics, turns=turns, back_off=self._back_off, hook=hook,
        )  # fmt: skip
        self._settle = Settle(
            self._transactions, apply=apply, background=background, erasing=erasing, outbox=outbox,
            stopping=self._back_off.stopping, open_span=open_span,
        )  # fmt: skip
        # Also past control records, of which the lane row knows nothing; None before the start.
        self._read_to: int | None = None
        self._progress_at = self._asked_at = time.monotonic()
        self._rebuilds = 0
        self._works = False
        self._held = Held()

    def stop(self) -> None:
        """Finish the batch in hand, publish it, end."""
        self._back_off.stopping.set()

    @property
    def stopping(self) -> bool:
        """Was it asked to stop?"""
        return self._back_off.stopping.is_set()

    @property
    def paused(self) -> bool:
        """Does PostgreSQL or Kafka not answer it, or its publisher?"""
        return self._back_off.waiting or self._outbox.away

    async def wait_for_stop(self, at_most: timedelta) -> None:
        """Returns when asked to stop, or after `at_most`."""
        with suppress(LaneStopped):
            await self._back_off.unless_stopping(asyncio.sleep(at_most.total_seconds()))

    async def run(self) -> None:
        """Take over, then work until stopped.

        Raises:
            LaneLost: another owner has the lane.
            LaneHalted: going on would break a promise.
            LaneStuck: the watchdog gave up.
        """
        tasks = [
            asyncio.create_task(part, name=f"lane-{self.lane}")
            for part in (self._work(), self._outbox.run(), self._housekeep(), self._overdue())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(tasks)
            self._background.stop()
            await self._source.stop()
            demand_success(tasks)

    async def _work(self) -> None:
        with suppress(LaneStopped):
            await self._back_off.unless_stopping(self._outbox.recovered())
            row = await self._transactions.reload()
            await self._start_source(row)
            while not self._back_off.stopping.is_set():
                row = await self._run_once(row)
            await self._hand_over(row)

    async def _overdue(self) -> None:
        """Ends some time after the wish to stop, whatever the others still wait for."""
        await self._back_off.stopping.wait()
        await asyncio.sleep(_STOP_WITHIN.total_seconds())
        log.warning("lane stopped where it stood", action="handover_incomplete", lane=self.lane)

    async def _run_once(self, row: LaneRow) -> LaneRow:
        """One batch, from poll to offer; the lane row as it is afterwards."""
        try:
            records = await self._source.poll(self._settle.fetch_wait(row))
        except SourceAway as error:
            await self._back_off.pause(str(error))
            await self._renew_source(row)
            return row
        self._hook("after_poll")
        backlog = row.result_sequence - self._outbox.published.result_sequence
        self._metrics.polled(lag=self._source.lag_seen(), backlog=max(0, backlog))
        self._look_if_held()
        total = self._source.partitions_total()
        if total is not None and total != row.partitions_total:
            raise partitions_changed(row, total)
        if not records:
            self._read_to = self._source.position
            await self._watch(row)
            return await self._settle.between(row)
        self._back_off.note_back()
        self._progress_at, self._rebuilds = time.monotonic(), 0
        started = time.perf_counter()
        batch = self._decoder.decode(records, self._source.position)
        after = await self._settle.polled(row, batch)
        self._note_works()
        if after.next_offset != batch.next_offset:
            self._source.seek(after.next_offset)
        self._read_to = after.next_offset
        self._metrics.batch(records=len(records), seconds=time.perf_counter() - started)
        return await self._settle.between(after)

    async def _renew_source(self, row: LaneRow) -> None:
        await self._source.stop()
        self._source = self._new_source()
        await self._start_source(row)

    async def _start_source(self, row: LaneRow) -> None:
        while True:
            try:
                await self._source.start(row)
            except SourceAway as error:
                await self._source.stop()
                self._source = self._new_source()
                await self._back_off.pause(str(error))
            else:
                self._read_to = row.next_offset
                self._back_off.note_back()
                return

    async def _hand_over(self, row: LaneRow) -> None:
        """Everything published and noted, so that the next owner starts without a tail to mend."""
        try:
            async with asyncio.timeout(_DRAIN_WITHIN.total_seconds()):
                await self._outbox.published_up_to(row.result_sequence)
                await self._note_published(row)
                await self._source.commit_offset(self._read_to or row.next_offset)
        except (TimeoutError, StoreAway, TryAgain, SourceAway) as error:
            log.info(
                "handed over with a backlog", action="handover_incomplete", lane=self.lane,
                error=type(error).__name__,
            )  # fmt: skip

    async def _housekeep(self) -> None:
        """Every few seconds: what was published, the group's offset, that the lane runs."""
        noted, committed = (-1, False, False), -1
        while True:
            await asyncio.sleep(_HOUSEKEEPING.total_seconds())
            row = self._transactions.row
            if row is None:
                continue
            try:
                now = self._outbox.published.result_sequence, self._works, self._held.now
                if now != noted:
                    await self._note_published(row)
                    noted = now
                await self._settle.expire(self.lane)
                if self._read_to is not None and self._read_to != committed:
                    await self._source.commit_offset(self._read_to)
                    committed = self._read_to
            except (StoreAway, TryAgain, SourceAway) as error:
                log.debug("housekeeping put off", action="housekeeping_failed", error=str(error))

    async def _note_published(self, row: LaneRow) -> None:
        published = self._outbox.published
        await self._store.note_published(
            row._replace(
                published_result_sequence=published.result_sequence,
                published_end_offset=published.end_offset,
            ),
            works=self._works,
            held=self._held.now,
        )

    def _note_works(self) -> None:
        """A batch is settled, or nothing is left to read: a halt before it is over only now."""
        if not self._works:
            self._works = True
            self._metrics.halted(False)

    async def _watch(self, row: LaneRow) -> None:
        """Nothing came: is Kafka there at all, and is there really nothing?

        No progress with real lag: rebuild the client; again: give up.
        """
        now = time.monotonic()
        if now - self._asked_at < _ASK_EVERY.total_seconds() and not self._back_off.waiting:
            return
        self._asked_at = now
        try:
            lag = await self._source.lag()
        except SourceAway as error:
            await self._back_off.pause(str(error))
            await self._renew_source(row)
            return
        self._back_off.note_back()
        if lag == 0:
            self._progress_at = now
            self._note_works()
        if now - self._progress_at < self._watchdog.total_seconds():
            return
        if self._rebuilds >= WATCHDOG_REBUILDS_MAX:
            raise LaneStuck(f"lane {self.lane} makes no progress with {lag} offsets to go")
        self._rebuilds += 1
        self._progress_at = now
        log.warning("client rebuilt", action="source_rebuilt", lane=self.lane, lag=lag)
        await self._renew_source(row)

    def _look_if_held(self) -> None:
        held_at = self._source.held_at()
        if not self._held.look(held_at, time.monotonic()):
            return
        self._metrics.held(self._held.now)
        if self._held.now:
            log.warning(
                "an open transaction of another client holds the lane", action="lane_held",
                lane=self.lane, offset=held_at,
            )  # fmt: skip
        else:
            log.warning("nothing holds the lane any more", action="lane_not_held", lane=self.lane)


def demand_success(tasks: Collection[asyncio.Task[None]]) -> None:
    """Raises the first failure of tasks that have ended. All are asked: of one that nobody asked,
    as where lane and publisher both find out that the lane is lost, asyncio tells later."""
    failures = [task.exception() for task in tasks if not task.cancelled()]
    for failure in failures:
        if failure is not None:
            raise failure


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: aiokafka swallows a cancellation while it closes a client."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN.total_seconds())
