"""Records that a lane has settled are handed to it again: each is a duplicate, nothing changes."""

from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import Fleet
from tests.faults.oracle import Tally, verify
from tests.faults.workload import Workload
from tests.faults.world import World


async def redelivered(world: World, results_total: int) -> Tally:
    """What there is once so many results are published."""

    async def published() -> bool:
        await world.results.read_on()
        return world.results.total >= results_total

    await world.until(published, what=f"{results_total} results")
    tally = await verify(world, redelivered=True)
    assert tally.kinds == {"command": results_total}
    return tally


async def test_redelivery__to_a_new_owner(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=60, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.updates(200))
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    before = await verify(world)
    await world.fetch("UPDATE lanes SET next_offset = 0, last_record_offset = NULL")
    consumer = await fleet.start(batch_records_max=20)
    tally = await redelivered(world, 2 * world.sent)
    assert tally.outcomes == {"applied": world.sent, "duplicate": world.sent}
    assert tally.versions == before.versions
    assert await consumer.terminated() == 0


async def test_redelivery__to_a_lane_at_work(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=61, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.updates(200))
    consumer = await fleet.start(batch_records_max=20)
    await world.settled()
    again = world.sent
    await world.fetch("UPDATE lanes SET next_offset = 0")
    # The batch that finds another offset in the lane row is dropped, and read again from there.
    for lane in range(PARTITIONS_TOTAL):
        await world.send(workload.lane_updates(lane, 1))
    tally = await redelivered(world, again + world.sent)
    assert tally.outcomes == {"applied": world.sent, "duplicate": again}
    assert not consumer.actions("lane_paused")
    assert await consumer.terminated() == 0
