"""A lane: poll → decode → apply → offer, for one partition and one epoch of ownership.

What the lane believes is only ever what the lane row said last. After any failure the row is read
again under its lock, and decides: done, to be done again, or somebody else's.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import structlog

from consumer.apply import Apply, Attempt
from consumer.background import Background
from consumer.bulk import opens_work, parts, refusable
from consumer.decode import Batch, DeadLetter, Decoder, cut
from consumer.erasing import Erasing
from consumer.held import Held
from consumer.metrics import LaneMetrics
from consumer.partitions import JournalPartitions
from consumer.ports import Outbox
from consumer.source import FETCH_WAIT, Source, SourceAway, partitions_changed
from consumer.store import (
    Connection,
    DataRefused,
    JournalRefused,
    LaneStore,
    StoreAway,
    StoreError,
    TryAgain,
)
from contract.lanes import Hook, LaneHalted, LaneLost, LaneRow, Published
from domain.limits import (
    APPLY_TRIES_MAX,
    BULK_ALONE_TRIES_MAX,
    CHUNK_TURNS_MISSED_MAX,
    WATCHDOG_REBUILDS_MAX,
    WHOLE_BATCH_TRIES_MAX,
)

_RETRY_FIRST, _RETRY_MAX = 0.05, 2.0
_HOUSEKEEPING = timedelta(seconds=5)
_ASK_EVERY = timedelta(seconds=5)
"""How long an idle lane may not know that Kafka is away."""
_DRAIN_WITHIN = timedelta(seconds=5)
_STOP_WITHIN = timedelta(seconds=10)
"""From the wish to stop: a batch in hand and the drain behind it, unless a server hangs."""

_NO_WAIT, _SHORT_WAIT = timedelta(0), timedelta(milliseconds=5)
"""While chunks are to be done: now, or once the publisher takes one without blocking the lane."""
_CANCEL_AGAIN = timedelta(seconds=3)

T = TypeVar("T")

Prepare = Callable[[Connection, LaneRow, Published], Awaitable[Attempt]]
"""All that a lane transaction does between its lock on the lane's row and COMMIT."""

log = structlog.get_logger("consumer")


class LaneStuck(Exception):
    """No progress with real lag, again after the client was rebuilt: the process must restart."""


class BatchTooSlow(Exception):
    """PostgreSQL answers, but not in time for all of this batch: half of it may do."""


class LaneStopped(Exception):
    """Asked to stop while waiting for PostgreSQL or Kafka: nothing is in hand."""


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
    ) -> None:
        self.lane = lane
        self.owner_epoch = owner_epoch
        self._new_source = source
        self._source = source()
        self._decoder = decoder
        self._apply = apply
        self._background = background
        self._erasing = erasing
        self._work_open = True
        self._turns_missed = 0
        self._store = store
        self._partitions = partitions
        self._outbox = outbox
        self._metrics = metrics
        self._turns = turns
        self._watchdog = watchdog
        self._hook = hook
        self._stopping = asyncio.Event()
        self._row: LaneRow | None = None
        # Also past control records, of which the lane row knows nothing; None before the start.
        self._read_to: int | None = None
        self._failures = 0
        self._progress_at = self._asked_at = time.monotonic()
        self._rebuilds = 0
        self._works = False
        self._held = Held()

    def stop(self) -> None:
        """Finish the batch in hand, publish it, end."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Was it asked to stop?"""
        return self._stopping.is_set()

    async def wait_for_stop(self, at_most: timedelta) -> None:
        """Returns when asked to stop, or after `at_most`."""
        with suppress(LaneStopped):
            await self._unless_stopping(asyncio.sleep(at_most.total_seconds()))

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
            await self._source.stop()
            for task in tasks:
                if not task.cancelled():
                    task.result()

    async def _work(self) -> None:
        with suppress(LaneStopped):
            await self._unless_stopping(self._outbox.recovered())
            row = await self._reload()
            await self._start_source(row)
            while not self._stopping.is_set():
                row = self._row = await self._run_once(row)
            await self._hand_over(row)

    async def _overdue(self) -> None:
        """Ends some time after the wish to stop, whatever the others still wait for."""
        await self._stopping.wait()
        await asyncio.sleep(_STOP_WITHIN.total_seconds())
        log.warning("lane stopped where it stood", action="handover_incomplete", lane=self.lane)

    async def _run_once(self, row: LaneRow) -> LaneRow:
        """One batch, from poll to offer; the lane row as it is afterwards."""
        try:
            records = await self._source.poll(self._fetch_wait())
        except SourceAway as error:
            await self._pause(str(error))
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
            return await self._work_off(row)
        self._note_back()
        self._progress_at, self._rebuilds = time.monotonic(), 0
        started = time.perf_counter()
        batch = self._decoder.decode(records, self._source.position)
        after = row
        for part in parts(batch):
            after = await self._settle(after, part)
            if after.next_offset != part.next_offset:
                break
        self._note_works()
        if after.next_offset != batch.next_offset:
            self._source.seek(after.next_offset)
        self._read_to = after.next_offset
        self._turns_missed += 1
        self._metrics.batch(records=len(records), seconds=time.perf_counter() - started)
        return await self._work_off(after)

    def _fetch_wait(self) -> timedelta:
        """No longer than what else there is to do may wait."""
        if not self._work_open:
            return FETCH_WAIT
        return _NO_WAIT if self._outbox.takes else _SHORT_WAIT

    async def _work_off(self, row: LaneRow) -> LaneRow:
        """A chunk of the bulk operations that are open, if any is; live batches come between."""
        row = await self._erase(row)
        if not self._work_open or self._stopping.is_set():
            return row
        if not self._outbox.takes and self._turns_missed < CHUNK_TURNS_MISSED_MAX:
            return row
        self._turns_missed = 0
        try:
            after = await self._settle_chunk(row)
        except BatchTooSlow:
            self._background.take_less()
            return row
        self._background.take_more()
        self._work_open = after.journal_sequence != row.journal_sequence
        return after

    async def _settle_chunk(self, row: LaneRow) -> LaneRow:
        prepare = self._background.prepare
        try:
            return await self._settle_whole(row, prepare, too_slow_after=WHOLE_BATCH_TRIES_MAX)
        except DataRefused:
            isolating = partial(prepare, isolating=True)
            return await self._settle_whole(row, isolating, too_slow_after=WHOLE_BATCH_TRIES_MAX)

    async def _erase(self, row: LaneRow) -> LaneRow:
        """A step of the erasures that are open, if any is."""
        if not self._erasing.due or self._stopping.is_set():
            return row
        try:
            return await self._settle_whole(
                row, self._erasing.prepare, too_slow_after=WHOLE_BATCH_TRIES_MAX
            )
        except BatchTooSlow:
            self._erasing.put_off()
            return row

    async def _settle(self, row: LaneRow, batch: Batch) -> LaneRow:
        """Apply a batch; halve it where PostgreSQL refuses data or cannot do all of it in time."""
        try:
            return await self._settle_batch(row, batch)
        except (DataRefused, BatchTooSlow) as error:
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
            except (DataRefused, BatchTooSlow) as again:
                error = again
        slow = isinstance(error, BatchTooSlow)
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
        return await self._settle_whole(row, prepare, too_slow_after=too_slow_after)

    async def _settle_whole(
        self, row: LaneRow, prepare: Prepare, *, too_slow_after: int | None
    ) -> LaneRow:
        """One transaction, tried again until the lane row says that it happened.

        Args:
            too_slow_after: so many failures count as too slow; None: it can only wait.

        Raises:
            DataRefused, BatchTooSlow: see `_settle`.
            LaneLost: the row has another epoch.
            LaneHalted: PostgreSQL refuses rows that only we write.
        """
        tries = failures = 0
        while True:
            attempts: list[Attempt] = []
            try:
                await self._partitions.demand(row.recorded_at)
                done = await _uncut(self._transact(row, prepare, attempts))
            except TryAgain as error:
                tries = await self._wait_turn(tries + 1, error)
            except JournalRefused as error:
                raise _journal_refused(row, error) from error
            except StoreAway as error:
                failures += 1
                await self._pause(str(error))
            else:
                if done is not None:
                    self._note_back()
                    await self._offer(done)
                    return done.after
            current = await self._reload()
            if attempts and _same_place(current, attempts[0].after):
                # The COMMIT whose answer was lost did happen.
                await self._offer(attempts[0])
                return attempts[0].after
            if not _same_place(current, row):
                return current
            if too_slow_after is not None and failures >= too_slow_after:
                raise BatchTooSlow
            row = current

    async def _wait_turn(self, tries: int, error: TryAgain) -> int:
        """A moment, of random length; after too many of them it counts as an outage."""
        if tries >= APPLY_TRIES_MAX:
            await self._pause(str(error))
            return 0
        await asyncio.sleep(random.uniform(0, 0.02 * 2**tries))
        return tries

    async def _offer(self, attempt: Attempt) -> None:
        rows = attempt.rows
        if not rows:
            return
        self._work_open = self._work_open or opens_work(rows[0])
        if attempt.erases:
            self._erasing.begin()
        await self._outbox.offer(rows)
        self._metrics.settled(rows)

    async def _transact(
        self, row: LaneRow, prepare: Prepare, attempts: list[Attempt]
    ) -> Attempt | None:
        """The lane transaction; None if the row is not as this lane believes."""
        async with AsyncExitStack() as turn:
            # Before BEGIN: who waits for a turn holds neither a connection nor the lane's row.
            await turn.enter_async_context(self._turns)
            return await self._transact_now(row, prepare, attempts, turn)

    async def _transact_now(
        self, row: LaneRow, prepare: Prepare, attempts: list[Attempt], turn: AsyncExitStack
    ) -> Attempt | None:
        async with self._store.transaction() as connection:
            self._hook("after_begin")
            locked = await self._store.lock(connection, self.lane)
            if locked.owner_epoch != self.owner_epoch:
                raise LaneLost(self.lane)
            if not _same_place(locked, row):
                return None
            attempt = await prepare(connection, locked, self._outbox.published)
            attempts.append(attempt)
            await turn.aclose()  # what COMMIT waits for is the disk
            self._hook("before_commit")
        self._hook("after_commit")
        return attempt

    async def _reload(self) -> LaneRow:
        """The lane row, read under its lock so that no COMMIT of ours can still be on its way."""
        while True:
            try:
                async with self._store.transaction() as connection:
                    row = await self._store.lock(connection, self.lane)
            except (StoreAway, TryAgain) as error:
                await self._pause(str(error))
                continue
            self._note_back()
            if row.owner_epoch != self.owner_epoch:
                raise LaneLost(self.lane)
            if self._row is not None and row.journal_sequence < self._row.journal_sequence:
                raise _commits_lost(self._row, row)
            self._row = row
            return row

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
                await self._pause(str(error))
            else:
                self._read_to = row.next_offset
                self._note_back()
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
            row = self._row
            if row is None:
                continue
            try:
                now = self._outbox.published.result_sequence, self._works, self._held.now
                if now != noted:
                    await self._note_published(row)
                    noted = now
                await self._background.expire(self.lane)
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
        if now - self._asked_at < _ASK_EVERY.total_seconds() and not self._failures:
            return
        self._asked_at = now
        try:
            lag = await self._source.lag()
        except SourceAway as error:
            await self._pause(str(error))
            await self._renew_source(row)
            return
        self._note_back()
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

    async def _pause(self, cause: str) -> None:
        """Wait with capped, jittered back-off; one log line for each change of state."""
        if self._failures == 0:
            log.warning("lane paused", action="lane_paused", lane=self.lane, cause=cause)
            self._metrics.paused(True)
        delay = min(_RETRY_FIRST * 2**self._failures, _RETRY_MAX) * random.uniform(0.5, 1)
        self._failures += 1
        await self._unless_stopping(asyncio.sleep(delay))

    def _note_back(self) -> None:
        if self._failures:
            log.warning("lane goes on", action="lane_resumed", lane=self.lane)
            self._metrics.paused(False)
        self._failures = 0

    async def _unless_stopping(self, awaited: Coroutine[Any, Any, None]) -> None:
        """Await something, or the wish to stop: then raises LaneStopped."""
        tasks = {asyncio.ensure_future(awaited), asyncio.ensure_future(self._stopping.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if self._stopping.is_set():
            raise LaneStopped


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: aiokafka swallows a cancellation while it closes a client."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN.total_seconds())


async def _uncut(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await it to its end, whoever wants to leave meanwhile: a COMMIT may have begun."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        error = task.exception()
        if error is not None and not isinstance(error, StoreError):
            raise error from None
        raise


def _journal_refused(row: LaneRow, error: JournalRefused) -> LaneHalted:
    return LaneHalted(
        row.lane,
        f"PostgreSQL refuses a row of the journal or the lane behind offset {row.next_offset}"
        f" ({error})",
        "No command can cause it: compare the schema (`funnel migrate status`), remove what was"
        " added to it, or report a fault of this service",
    )


def _commits_lost(known: LaneRow, row: LaneRow) -> LaneHalted:
    """Deciding them anew would give other events the numbers of those that were published."""
    return LaneHalted(
        row.lane,
        f"the journal went back from row {known.journal_sequence} to {row.journal_sequence}",
        "PostgreSQL has lost commits, as after a restore: run `funnel recover`",
    )


def _same_place(a: LaneRow, b: LaneRow) -> bool:
    """The compare of compare-and-set."""
    return (a.owner_epoch, a.next_offset, a.journal_sequence) == (
        b.owner_epoch,
        b.next_offset,
        b.journal_sequence,
    )
