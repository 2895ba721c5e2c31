"""A consumer killed at every named step; the next one goes on as if nothing had happened."""

import signal

import pytest

from funnel.crash import CRASH_POINTS
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World

COMMANDS_TOTAL = 600
TAKEOVER_POINTS = ("after_fence", "after_tail")
# Reached once by each of the four lanes at start: the fifth time is under load.
UNDER_LOAD = tuple(f"{point}:6" for point in CRASH_POINTS if point not in TAKEOVER_POINTS)


async def load(world: World) -> Workload:
    """Hundreds of commands, several for each candidate, with reroutes and dead letters."""
    workload = Workload(seed=1, candidates_for_each_lane=6)
    await world.send(workload.creations())
    await world.send(workload.mixed(COMMANDS_TOTAL))
    return workload


async def recover(world: World, fleet: Fleet) -> None:
    """A new process under the same name takes its lanes back without waiting for the lease."""
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    tally = await verify(world)
    assert set(tally.kinds) == {"command", "reroute", "dead_letter"}
    assert {"applied", "merged", "duplicate", "rejected"} <= set(tally.outcomes)


@pytest.mark.parametrize("point", [*TAKEOVER_POINTS, *UNDER_LOAD])
async def test_kill__at_a_crash_point(world: World, fleet: Fleet, point: str) -> None:
    await load(world)
    consumer = await fleet.start(crash_at=point, batch_records_max=40)
    assert await consumer.ended() == -signal.SIGKILL
    await recover(world, fleet)
