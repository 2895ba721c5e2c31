"""Waiting for PostgreSQL or Kafka: capped, jittered, and given up once the lane is to stop."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import structlog

_RETRY_FIRST, _RETRY_MAX = 0.05, 2.0

log = structlog.get_logger("consumer")


class LaneStopped(Exception):
    """Asked to stop while waiting for PostgreSQL or Kafka: nothing is in hand."""


class BackOff:
    """How long one lane has been waiting, for whichever of the two."""

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._failures = 0
        self.stopping = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Did the last question get no answer?"""
        return self._failures > 0

    async def pause(self, cause: str) -> None:
        """Wait; one log line for each change of state.

        Raises:
            LaneStopped: the lane is to stop.
        """
        if self._failures == 0:
            log.warning("lane paused", action="lane_paused", lane=self._lane, cause=cause)
        delay = min(_RETRY_FIRST * 2**self._failures, _RETRY_MAX) * random.uniform(0.5, 1)
        self._failures += 1
        await self.unless_stopping(asyncio.sleep(delay))

    def note_back(self) -> None:
        """Somebody answered."""
        if self._failures:
            log.warning("lane goes on", action="lane_resumed", lane=self._lane)
        self._failures = 0

    async def unless_stopping(self, awaited: Coroutine[Any, Any, None]) -> None:
        """Await something, or the wish to stop.

        Raises:
            LaneStopped: the lane is to stop.
        """
        tasks = {asyncio.ensure_future(awaited), asyncio.ensure_future(self.stopping.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if self.stopping.is_set():
            raise LaneStopped
