"""The consumer process: keeps its fair share of the lanes running until it is told to stop."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog

from consumer.lane import Lane
from consumer.membership import Claim, Membership, fair_share
from consumer.metrics import ConsumerMetrics
from consumer.retention import Retention
from consumer.store import StoreAway, TryAgain
from contract.lanes import LaneHalted, LaneLost
from domain.limits import LANE_RETRY_SECONDS

_TICK_WITHIN = timedelta(seconds=15)
"""Longer than a connection may take; a lease that is not renewed by then has ended anyway."""
_TELL_WITHIN = timedelta(seconds=3)
"""What is not told when leaving, the end of the lease tells: no reason to stay."""

log = structlog.get_logger("consumer")

LaneOf = Callable[[Claim], Lane]


class ConsumerService:
    """Owns the tasks of its lanes, one each."""

    def __init__(
        self,
        *,
        consumer_id: str,
        membership: Membership,
        lanes_total: int,
        lane_of: LaneOf,
        metrics: ConsumerMetrics,
        retention: Retention,
        lease: timedelta,
    ) -> None:
        self._consumer_id = consumer_id
        self._membership = membership
        self._lanes_total = lanes_total
        self._lane_of = lane_of
        self._metrics = metrics
        self._retention = retention
        self._tick_every = min(lease / 5, timedelta(seconds=1))
        self._running: dict[int, tuple[Claim, asyncio.Task[None]]] = {}
        self._lanes: dict[int, Lane] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._away = False

    @property
    def lanes(self) -> tuple[int, ...]:
        """The lanes held now."""
        return tuple(self._running)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; then every lane finishes its batch and is handed over.

        Raises:
            Exception: whatever a lane does not know how to survive.
        """
        try:
            while not stopping.is_set() and not self._failed.done():
                await self._tick()
                await self._sleep(stopping)
        finally:
            await self._leave()
        if self._failed.done():
            self._failed.result()

    async def _tick(self) -> None:
        try:
            async with asyncio.timeout(_TICK_WITHIN.total_seconds()):
                await self.run_once()
        except (StoreAway, TryAgain, TimeoutError) as error:
            if not self._away:
                log.warning(
                    "membership paused",
                    action="membership_paused",
                    cause=str(error) or "no answer in time",
                )
            self._away = True
        else:
            if self._away:
                log.warning("membership goes on", action="membership_resumed")
            self._away = False

    async def run_once(self) -> None:
        """Renew the lease, claim what is free up to the fair share, let go of what is above it."""
        alive = await self._membership.heartbeat()
        for claim in await self._membership.lost([claim for claim, _ in self._running.values()]):
            self._drop(claim)
        share = fair_share(self._consumer_id, alive, self._lanes_total)
        held = len(self._running)
        if held < share:
            for claim in await self._membership.claim(self._running, share - held):
                self._start(claim)
        await self._membership.release_strays(self._running)
        for lane in sorted(self._lanes)[share:]:
            self._lanes[lane].stop()
        await self._retention.run_once()

    def _start(self, claim: Claim) -> None:
        log.info("lane taken", action="lane_taken", lane=claim.lane, owner_epoch=claim.owner_epoch)
        task = asyncio.create_task(self._keep(claim), name=f"lane-{claim.lane}")
        self._running[claim.lane] = claim, task
        task.add_done_callback(lambda task: self._ended(claim.lane, task))

    def _drop(self, claim: Claim) -> None:
        """A lane without commands, or halted, would not find out by itself that it is lost."""
        _, task = self._running.get(claim.lane, (claim, None))
        if task is not None and not task.cancelling():
            _log_lost(claim)
            task.cancel()

    def _ended(self, lane: int, task: asyncio.Task[None]) -> None:
        self._running.pop(lane, None)
        self._lanes.pop(lane, None)
        if not task.cancelled() and task.exception() and not self._failed.done():
            self._failed.set_exception(task.exception() or RuntimeError())

    async def _keep(self, claim: Claim) -> None:
        """One lane, through halts, until it is lost or let go."""
        metrics = self._metrics.lane(claim.lane)
        metrics.owned(True)
        metrics.paused_while(lambda: self._paused(claim.lane))
        try:
            while True:
                lane = self._lanes[claim.lane] = self._lane_of(claim)
                try:
                    await lane.run()
                except LaneLost:
                    _log_lost(claim)
                    return
                except LaneHalted as halted:
                    await self._halt(claim, lane, halted)
                    if not lane.stopping:
                        continue
                await self._release(claim)
                return
        finally:
            metrics.owned(False)
            metrics.halted(False)
            metrics.paused_while(lambda: False)

    def _paused(self, lane: int) -> bool:
        running = self._lanes.get(lane)
        return self._away or (running is not None and running.paused)

    async def _halt(self, claim: Claim, lane: Lane, halted: LaneHalted) -> None:
        """Loud, kept for operators, and looked at again after a while."""
        metrics = self._metrics.lane(claim.lane)
        metrics.halted(True)
        log.error(
            "lane halted", action="lane_halted", lane=claim.lane, cause=halted.cause,
            remedy=halted.remedy,
        )  # fmt: skip
        await self._note(claim, halted)
        await lane.wait_for_stop(timedelta(seconds=LANE_RETRY_SECONDS))

    async def _note(self, claim: Claim, halted: LaneHalted) -> None:
        try:
            await self._membership.note_halted(claim, halted)
        except (StoreAway, TryAgain) as error:
            log.warning("halt not noted", action="halt_not_noted", error=str(error))

    async def _release(self, claim: Claim) -> None:
        try:
            async with asyncio.timeout(_TELL_WITHIN.total_seconds()):
                await self._membership.release(claim)
        except (StoreAway, TryAgain, TimeoutError) as error:
            log.warning(
                "lane not handed over, its lease will end", action="release_failed",
                lane=claim.lane, error=str(error),
            )  # fmt: skip
        else:
            log.info("lane handed over", action="lane_released", lane=claim.lane)

    async def _sleep(self, stopping: asyncio.Event) -> None:
        waiter: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
        waits: set[asyncio.Future[Any]] = {waiter, self._failed}
        try:
            await asyncio.wait(
                waits,
                timeout=self._tick_every.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            waiter.cancel()

    async def _leave(self) -> None:
        for lane in self._lanes.values():
            lane.stop()
        tasks = [task for _, task in self._running.values()]
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_TELL_WITHIN.total_seconds()):
                await self._membership.leave()
        except (StoreAway, TryAgain, TimeoutError) as error:
            log.warning("left without a word", action="leave_failed", error=str(error))


def _log_lost(claim: Claim) -> None:
    log.warning("lane lost", action="lane_lost", lane=claim.lane, owner_epoch=claim.owner_epoch)
