"""Where there is nothing to read a lane waits: no spinning, no watchdog, and it goes on at once."""

import asyncio

from aiokafka import AIOKafkaProducer

from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.process import cpu_seconds
from tests.faults.workload import Workload
from tests.faults.world import World, send_record

WATCHDOG_SECONDS = 2
WAIT_SECONDS = 30.0
"""Fifteen times what the watchdog would bear, and as long as it bears by default."""
BUSY_SHARE_MAX = 0.5


async def test_wait__at_control_records_and_behind_an_open_transaction(
    world: World, fleet: Fleet
) -> None:
    workload = Workload(seed=30, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start(watchdog_seconds=WATCHDOG_SECONDS)
    upstream = AIOKafkaProducer(**world.kafka, transactional_id=f"{world.topics.commands}.upstream")
    await upstream.start()
    try:
        # Lane 0 ends with a commit marker, lane 1 with aborted records and their marker.
        async with upstream.transaction():
            for record in workload.lane_updates(0, 10):
                await (await send_record(upstream, world.topics, record))
        world.sent += 10
        await upstream.begin_transaction()
        for record in workload.lane_updates(1, 10):
            await (await send_record(upstream, world.topics, record))
        await upstream.abort_transaction()
        await world.settled()
        # Lane 2 has commands behind a transaction that nobody ends.
        await upstream.begin_transaction()
        for record in workload.lane_updates(2, 10):
            await (await send_record(upstream, world.topics, record))
        await world.send(workload.lane_updates(2, 10))
        busy = cpu_seconds(consumer.pid)
        await asyncio.sleep(WAIT_SECONDS)  # nothing may happen: there is no event to wait for
        busy = cpu_seconds(consumer.pid) - busy
        assert busy < BUSY_SHARE_MAX * WAIT_SECONDS
        assert not consumer.actions("source_rebuilt")
        assert not consumer.actions("lane_paused")
        await upstream.commit_transaction()
        world.sent += 10
    finally:
        await upstream.stop()
    for lane in range(4):
        await world.send(workload.lane_updates(lane, 10))
    await world.settled()
    assert not consumer.actions("source_rebuilt")
    assert await consumer.terminated() == 0
    await verify(world)
