"""Requests that wait until a command has ended: one query a tick for all of them together.

A wait ends with the command, with its time, or with `end_all`; a cancelled one leaves no trace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from api.coalesce import Coalesced
from api.limits import TICK_S, WAITS_MAX
from api.queries import UNKNOWN, CommandKey, CommandStatus

Look = Callable[[Sequence[CommandKey]], Awaitable[Mapping[CommandKey, CommandStatus]]]


class TooManyWaits(Exception):
    """This process has as many waiting requests as it takes."""


class CommandWaits:
    """All waits of this process. `run` must be running for any of them to end early.

    `ending` is set once the process is stopping, for whatever else lasts.
    """

    def __init__(self, look: Look, *, waits_max: int = WAITS_MAX) -> None:
        self._look = look
        self._now = Coalesced(look)
        self._waits_max = waits_max
        self._waits: set[_Wait] = set()
        self._some = asyncio.Event()
        self.ending = asyncio.Event()

    async def status(self, key: CommandKey, *, wait_s: float) -> CommandStatus:
        """How the command stands: at once if it has ended, else when it has or time is up.

        Raises:
            DatabaseAway: at once, whenever it is noticed.
            TooManyWaits: instead of waiting.
        """
        status = await self._now.get(key) or UNKNOWN
        if status.ended is not None or wait_s <= 0 or self.ending.is_set():
            return status
        if len(self._waits) >= self._waits_max:
            raise TooManyWaits
        wait = _Wait(key, status)
        self._waits.add(wait)
        self._some.set()
        try:
            async with asyncio.timeout(wait_s):
                await wait.over
        except TimeoutError:
            return wait.status
        finally:
            self._waits.discard(wait)
        return wait.status

    async def run(self) -> None:
        """Look for whoever waits, for ever; costs nothing while nobody does."""
        while True:
            await self._some.wait()
            await asyncio.sleep(TICK_S)
            if self._waits:
                await self._tick()
            else:
                self._some.clear()

    def end_all(self) -> None:
        """The process is stopping: answer every wait with what is known, and take no more."""
        self.ending.set()
        for wait in self._waits:
            wait.end()

    @property
    def total(self) -> int:
        """How many requests wait now."""
        return len(self._waits)

    async def _tick(self) -> None:
        waits = list(self._waits)
        keys = list(dict.fromkeys(wait.key for wait in waits))
        try:
            statuses = await self._look(keys)
        except Exception as error:  # noqa: BLE001 - every wait raises it
            for wait in waits:
                wait.fail(error)
            return
        for wait in waits:
            wait.status = statuses[wait.key]
            if wait.status.ended is not None:
                wait.end()


class _Wait:
    """One request: what it asks, what is known so far, and when it is over."""

    def __init__(self, key: CommandKey, status: CommandStatus) -> None:
        self.key = key
        self.status = status
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)
