"""A COMMIT without an answer: it happened or it did not, and the lane finds out which."""

import pytest

from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.proxy import CommitProxy, Loss
from tests.faults.workload import Workload
from tests.faults.world import World

COMMITS_LOST_MIN = 3


@pytest.mark.parametrize(
    ("loss", "silent"), [("request", False), ("answer", False), ("answer", True)]
)
async def test_commit__is_lost_on_its_way(
    world: World, fleet: Fleet, loss: Loss, silent: bool
) -> None:
    workload = Workload(seed=40, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.mixed(500))
    # Each silence lasts for as long as the lane waits for an answer.
    every = 14 if silent else 4
    proxy = CommitProxy(world.database_url, loss=loss, every=every, silent=silent)
    async with proxy.running() as database_url:
        consumer = await fleet.start(database_url=database_url, batch_records_max=10)
        await world.settled()
        assert proxy.lost >= COMMITS_LOST_MIN
        assert consumer.actions("lane_paused")
        assert consumer.actions("lane_resumed")
        assert await consumer.terminated() == 0
    await verify(world)
