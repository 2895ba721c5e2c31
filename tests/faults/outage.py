"""What every outage of a server must look like from outside, while it lasts and when it is over.

While it lasts: `/readyz` says no, and nobody spins. When it is over: each lane applies and
publishes its next command within the promised time, `/readyz` says yes, and each change of state
was one line of the log.
"""

import asyncio
import os
import sys
import time
from itertools import pairwise

from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import ConsumerProcess
from tests.faults.process import cpu_seconds
from tests.faults.workload import Workload
from tests.faults.world import LOOK_EVERY_SECONDS, World

LEASE_SECONDS = 2.0
"""Of the fleet, unless a test says otherwise."""

AWAY_SECONDS = 3.0
"""How long an outage is watched: longer than the lease."""

BUSY_SHARE_MAX = 0.6
"""Of one core, while nothing can be done: a spinning loop takes all of it."""

LOOK_EVERY = 0.2

ALLOWANCE = float(os.environ.get("FUNNEL_TEST_HEALING_ALLOWANCE", "4"))
"""So many times the promise: tests run on a machine whose cores others use as well."""


def heals_within(lease_seconds: float = LEASE_SECONDS) -> float:
    """The promise, in seconds: ten, or two more than the lease, whichever is longer."""
    return max(10.0, lease_seconds + 2.0)


class Outage:
    """One consumer, watched through one outage after the other."""

    def __init__(self, world: World, consumer: ConsumerProcess, workload: Workload) -> None:
        self._world = world
        self.consumer = consumer
        self._workload = workload

    async def lasts(self) -> None:
        """The outage has begun and goes on meanwhile: found out, it is not forgotten again."""
        async with asyncio.timeout(heals_within() * ALLOWANCE):
            await self._until_ready(False)
            while not await self._stays_unready():
                await self._until_ready(False)

    async def _stays_unready(self) -> bool:
        """For as long as an outage is watched; False where it was another hiccup before it."""
        busy, began_at = cpu_seconds(self.consumer.pid), time.monotonic()
        while (watched := time.monotonic() - began_at) < AWAY_SECONDS:
            if await self.consumer.ready():
                return False
            await asyncio.sleep(LOOK_EVERY)
        busy = cpu_seconds(self.consumer.pid) - busy
        assert busy < BUSY_SHARE_MAX * watched, f"{busy:.1f} s of CPU in {watched:.1f} s"
        return True

    async def is_over(self) -> None:
        """Called at the end of the fault; returns once nothing tells of it any more."""
        over_at, within = time.monotonic(), heals_within() * ALLOWANCE
        applied, published = await self._applied(), await self._world.results.stable_ends()
        for lane in range(PARTITIONS_TOTAL):
            await self._world.send(self._workload.lane_updates(lane, 1))

        async def goes_on() -> bool:
            return all(map(int.__gt__, await self._applied(), applied)) and all(
                map(int.__gt__, await self._world.results.stable_ends(), published)
            )

        await self._world.until(goes_on, what="each lane goes on", seconds=within)
        sys.stdout.write(f"healed in {time.monotonic() - over_at:.1f} s\n")
        await self._until_ready(True)
        demand_lines_in_turn(self.consumer)

    async def _applied(self) -> list[int]:
        rows = await self._world.fetch("SELECT result_sequence FROM lanes ORDER BY lane")
        return [row[0] for row in rows]

    async def _until_ready(self, yes: bool) -> None:
        """Without PostgreSQL, so not by `World.until`."""
        async with asyncio.timeout(heals_within() * ALLOWANCE):
            while await self.consumer.ready() != yes:  # noqa: ASYNC110  another process is asked
                await asyncio.sleep(LOOK_EVERY_SECONDS)


def demand_lines_in_turn(consumer: ConsumerProcess) -> None:
    """For each lane, paused and resumed follow each other; so do the membership's."""
    for lane in range(PARTITIONS_TOTAL):
        for what in ("lane", "publisher"):
            said = [
                line["action"]
                for line in consumer.lines
                if line.get("lane") == lane
                and line.get("action") in (f"{what}_paused", f"{what}_resumed")
            ]
            assert all(a != b for a, b in pairwise(said)), (lane, said)
    said = [
        line["action"]
        for line in consumer.lines
        if str(line.get("action")).startswith("membership_")
    ]
    assert all(a != b for a, b in pairwise(said)), said
