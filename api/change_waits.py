"""Requests that wait for the next change of an organization: one small query a tick for them all.

A tick looks how far the changes of the lanes go, a handful of rows however many wait, and asks for
the organizations of those lanes alone that went on. No change is missed: a lane's row and the
changes it counts become visible together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from api.journal_queries import ChangePlace
from api.limits import CHANGES_WAITS_MAX, TICK_S
from api.waiting import TooManyWaits
from domain.identity import home_lane

Lanes = Mapping[int, tuple[int, int]]
LookAtLanes = Callable[[], Awaitable[Lanes]]
LookAtChanges = Callable[[Sequence[str]], Awaitable[Mapping[str, ChangePlace]]]


class ChangeWaits:
    """All of this process. `run` must be running for any of them to end early."""

    def __init__(
        self, lanes: LookAtLanes, changes: LookAtChanges, *, waits_max: int = CHANGES_WAITS_MAX
    ) -> None:
        self._lanes = lanes
        self._changes = changes
        self._waits_max = waits_max
        self._waits: set[_Wait] = set()
        self._some = asyncio.Event()
        self.ending = False

    async def wait(self, organization_id: str, after: int, *, wait_s: float) -> None:
        """Return once the organization has a change after `after`, time is up, or all is over.

        Raises:
            DatabaseAway: as soon as it is noticed.
            TooManyWaits: instead of waiting.
        """
        if self.ending or wait_s <= 0:
            return
        if self.is_full:
            raise TooManyWaits
        wait = _Wait(organization_id, after)
        self._waits.add(wait)
        self._some.set()
        try:
            async with asyncio.timeout(wait_s):
                await wait.over
        except TimeoutError:
            return
        finally:
            self._waits.discard(wait)

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
        """The process is stopping: every wait ends, and none begins."""
        self.ending = True
        for wait in self._waits:
            wait.end()

    @property
    def is_full(self) -> bool:
        """Whether one more would be refused."""
        return len(self._waits) >= self._waits_max

    @property
    def total(self) -> int:
        """How many wait now."""
        return len(self._waits)

    async def _tick(self) -> None:
        waits = list(self._waits)
        try:
            lanes = await self._lanes()
            moved = [wait for wait in waits if wait.seen != _head(lanes, wait.organization_id)]
            organizations = list(dict.fromkeys(wait.organization_id for wait in moved))
            newest = await self._changes(organizations) if organizations else {}
        except Exception as error:  # noqa: BLE001 - every wait raises it
            for wait in waits:
                wait.fail(error)
            return
        for wait in moved:
            wait.seen = _head(lanes, wait.organization_id)
            found = newest.get(wait.organization_id)
            if found is not None and found.sequence > wait.after:
                wait.end()


def _head(lanes: Lanes, organization_id: str) -> int:
    """How far the changes of the organization's lane go; 0 while there is none."""
    if not lanes:
        return 0
    total, _ = next(iter(lanes.values()))
    _, head = lanes.get(home_lane(organization_id, total), (total, 0))
    return head


class _Wait:
    """One request: what it waits for, how far its lane was when it was last looked at."""

    def __init__(self, organization_id: str, after: int) -> None:
        self.organization_id = organization_id
        self.after = after
        self.seen = -1
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)
