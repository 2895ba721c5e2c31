"""The transactions of a lane: each happens once, whatever becomes of its COMMIT.

What the lane believes is only ever what the lane row said last. After any failure the row is read
again under its lock, and decides: done, to be done again, or somebody else's.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeVar

from consumer.apply import Attempt
from consumer.back_off import BackOff
from consumer.metrics import LaneMetrics
from consumer.partitions import JournalPartitions
from consumer.ports import Outbox
from consumer.store import (
    Connection,
    JournalRefused,
    LaneStore,
    StoreAway,
    StoreError,
    TryAgain,
)
from contract.lanes import Hook, LaneHalted, LaneLost, LaneRow, Published
from domain.limits import APPLY_TRIES_MAX

T = TypeVar("T")

Prepare = Callable[[Connection, LaneRow, Published], Awaitable[Attempt]]
"""All that a lane transaction does between its lock on the lane's row and COMMIT."""


class TransactionTooSlow(Exception):
    """PostgreSQL answers, but not in time for all of this: half of it may do."""


class Done(NamedTuple):
    """The lane's row as it is now, and what made it so; nothing if it was found elsewhere."""

    row: LaneRow
    attempt: Attempt | None


class LaneTransactions:
    """Those of one lane and one epoch; what they make true is offered to the publisher.

    Attributes:
        row: the lane's row as it was seen last.
    """

    def __init__(
        self,
        *,
        lane: int,
        owner_epoch: int,
        store: LaneStore,
        partitions: JournalPartitions,
        outbox: Outbox,
        metrics: LaneMetrics,
        turns: asyncio.Semaphore,
        back_off: BackOff,
        hook: Hook,
    ) -> None:
        self._lane = lane
        self._owner_epoch = owner_epoch
        self._store = store
        self._partitions = partitions
        self._outbox = outbox
        self._metrics = metrics
        self._turns = turns
        self._back_off = back_off
        self._hook = hook
        self.row: LaneRow | None = None

    async def run(self, row: LaneRow, prepare: Prepare, *, too_slow_after: int | None) -> Done:
        """One transaction, tried again until the lane row says that it happened.

        Args:
            too_slow_after: so many failures count as too slow; None: it can only wait.

        Raises:
            DataRefused: PostgreSQL does not take a candidate.
            TransactionTooSlow: it failed too often.
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
                self._partitions.doubt()
                tries = await self._wait_turn(tries + 1, error)
            except JournalRefused as error:
                raise _journal_refused(row, error) from error
            except StoreAway as error:
                failures += 1
                await self._back_off.pause(str(error))
            else:
                if done is not None:
                    self._back_off.note_back()
                    return await self._offer(done)
            current = await self.reload()
            if attempts and current.same_place(attempts[0].after):
                # The COMMIT whose answer was lost did happen.
                return await self._offer(attempts[0])
            if not current.same_place(row):
                return Done(current, None)
            if too_slow_after is not None and failures >= too_slow_after:
                raise TransactionTooSlow
            row = current

    async def _wait_turn(self, tries: int, error: TryAgain) -> int:
        """A moment, of random length; after too many of them it counts as an outage."""
        if tries >= APPLY_TRIES_MAX:
            await self._back_off.pause(str(error))
            return 0
        await asyncio.sleep(random.uniform(0, 0.02 * 2**tries))
        return tries

    async def _offer(self, attempt: Attempt) -> Done:
        self.row = attempt.after
        if attempt.rows:
            await self._outbox.offer(attempt.rows)
            self._metrics.settled(attempt.rows)
        return Done(attempt.after, attempt)

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
            locked = await self._store.lock(connection, self._lane)
            if locked.owner_epoch != self._owner_epoch:
                raise LaneLost(self._lane)
            if not locked.same_place(row):
                return None
            attempt = await prepare(connection, locked, self._outbox.published)
            attempts.append(attempt)
            await turn.aclose()  # what COMMIT waits for is the disk
            self._hook("before_commit")
        self._hook("after_commit")
        return attempt

    async def reload(self) -> LaneRow:
        """The lane row, read under its lock so that no COMMIT of ours can still be on its way."""
        while True:
            try:
                async with self._store.transaction() as connection:
                    row = await self._store.lock(connection, self._lane)
            except (StoreAway, TryAgain) as error:
                await self._back_off.pause(str(error))
                continue
            self._back_off.note_back()
            if row.owner_epoch != self._owner_epoch:
                raise LaneLost(self._lane)
            if self.row is not None and row.journal_sequence < self.row.journal_sequence:
                raise _commits_lost(self.row, row)
            self.row = row
            return row


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
