"""A long lag of large records: what a consumer holds in memory stays below a stated bound."""

import asyncio

from domain.limits import CONSUMER_RESIDENT_MIB_MAX
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.process import peak_bytes
from tests.faults.workload import Workload
from tests.faults.world import World

RECORD_BYTES = 1_000_000
RECORDS_FOR_EACH_LANE = 20


async def test_memory__under_a_lag_of_large_records(world: World, fleet: Fleet) -> None:
    """Eighty megabytes that no result answers, each kept and published whole; then small ones."""
    workload = Workload(seed=98, candidates_for_each_lane=4)
    await world.send(workload.creations())
    large = [
        command._replace(value=b"x" * RECORD_BYTES)
        for lane in range(4)
        for command in workload.lane_updates(lane, RECORDS_FOR_EACH_LANE)
    ]
    for some in (large[index : index + 8] for index in range(0, len(large), 8)):
        await world.send(some, max_request_size=2 * RECORD_BYTES)
    await world.send(workload.updates(4000))
    consumer = await fleet.start(batch_records_max=1000)
    await world.settled(seconds=90)
    peak = await asyncio.to_thread(peak_bytes, consumer.pid)
    assert peak < CONSUMER_RESIDENT_MIB_MAX * 2**20, f"{peak / 2**20:.0f} MiB"
    assert await consumer.terminated() == 0
    tally = await verify(world)
    assert tally.kinds["dead_letter"] == len(large)
