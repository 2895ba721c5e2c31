"""Lanes change hands: fair shares as consumers come and go, and at once when one stops in order."""

import asyncio

import asyncpg

from funnel.shutdown import SECOND_SIGNAL_EXIT_CODE
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World


async def test_lanes__are_shared_fairly_as_consumers_come_and_go(
    world: World, fleet: Fleet
) -> None:
    workload = Workload(seed=5, candidates_for_each_lane=6)
    await world.send(workload.creations())
    # A lease that does not end within the test: only an orderly hand-over is that quick.
    one = await fleet.start("one", lease_seconds=60)
    await world.shared({"one": {4}})
    two = await fleet.start("two", lease_seconds=60)
    await world.shared({"one": {2}, "two": {2}})
    await world.send(workload.mixed(300))
    three = await fleet.start("three", lease_seconds=60)
    await world.shared({"one": {1, 2}, "two": {1, 2}, "three": {1, 2}})
    await world.send(workload.mixed(300))
    await world.settled()
    assert await one.terminated() == 0
    await world.shared({"two": {2}, "three": {2}})
    assert await two.terminated() == 0
    await world.shared({"three": {4}})
    await world.send(workload.mixed(300))
    await world.settled()
    assert await three.terminated() == 0
    for consumer in (one, two, three):
        assert not consumer.actions("lane_lost")
    await verify(world)


async def test_lanes__of_a_former_process_of_the_same_name_are_shared_again(
    world: World, fleet: Fleet
) -> None:
    one = await fleet.start("one", lease_seconds=60)
    two = await fleet.start("two", lease_seconds=60)
    await world.shared({"one": {2}, "two": {2}})
    await two.killed()
    guest = await fleet.start("guest", lease_seconds=60)
    # Before it has joined, the share of "two" is still both of its lanes.
    await world.shared({"guest": {1}, "one": {1}, "two": {2}})
    # Of two lanes that carry its name it may keep one, and nobody can take the other from it.
    two = await fleet.start("two", lease_seconds=60)
    await world.shared({"guest": {2}, "one": {1}, "two": {1}})
    for consumer in (guest, one, two):
        assert await consumer.terminated() == 0


async def test_sigterm__under_load_leaves_no_backlog(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=6, candidates_for_each_lane=6)
    await world.send(workload.creations())
    consumer = await fleet.start("one", lease_seconds=60, batch_records_max=40)
    await world.settled()
    sending = asyncio.create_task(world.send(workload.mixed(4000)))
    await world.until(
        lambda: world.holds("SELECT max(result_sequence) > 100 FROM lanes"), what="under load"
    )
    assert await consumer.terminated() == 0
    await sending
    await world.commands.read_on()
    decided = await world.fetch("SELECT * FROM lanes ORDER BY lane")
    assert sum(lane["result_sequence"] for lane in decided) < world.commands.total
    await world.results.read_on()
    for lane, results in zip(decided, world.results.records, strict=True):
        assert lane["owner"] is None
        assert lane["published_result_sequence"] == lane["result_sequence"] == len(results)
    # The peer does not wait for any lease.
    peer = await fleet.start("two", lease_seconds=60)
    await world.settled()
    assert await peer.terminated() == 0
    await verify(world)


async def test_sigterm__a_second_one_means_now(world: World, fleet: Fleet) -> None:
    """While the batch in hand waits for a lock that others keep."""
    workload = Workload(seed=6, candidates_for_each_lane=2)
    await world.send(workload.creations())
    consumer = await fleet.start("one", lease_seconds=60)
    await world.settled()
    connection = await asyncpg.connect(world.database_url, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM lanes FOR UPDATE")
            await world.send(workload.updates(40))
            waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await world.until(lambda: world.holds(waiting), what="a batch in hand")
            while consumer.running:  # two signals at once may be one
                consumer.terminate()
                await asyncio.sleep(0.1)
            assert await consumer.ended() == SECOND_SIGNAL_EXIT_CODE
    finally:
        await connection.close(timeout=5)
    again = await fleet.start("one", lease_seconds=60)
    await world.settled()
    assert await again.terminated() == 0
    await verify(world)


async def test_sigterm__with_postgresql_and_kafka_idle_ends_at_once(
    world: World, fleet: Fleet
) -> None:
    consumer = await fleet.start("one")
    for lane in range(4):
        await consumer.said("lane_taken", lane=lane)
    # In the middle of taking over: nothing is in hand yet.
    assert await consumer.terminated() == 0
    assert not await world.value("SELECT count(*) FROM lanes WHERE owner IS NOT NULL")
    assert not await world.value("SELECT count(*) FROM consumers")
