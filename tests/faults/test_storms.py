"""Owners come, go, die, freeze or hang: lanes stay shared, and none stands still for long."""

import asyncio
import random
import time
from collections import defaultdict

from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World

STORM_SECONDS = 10.0
CHANGE_EVERY = 0.7
LEASE_SECONDS = 2
STANDS_STILL_MAX = 15.0
"""A lease by promise, and what starting processes takes on a machine that others use."""

NAMES = ("a", "b", "c", "d")


class Standstill:
    """How long each lane has made no progress while it had work, at most."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last: dict[int, tuple[int, float]] = {}
        self.longest: dict[int, float] = defaultdict(float)

    async def look(self) -> None:
        now = time.monotonic()
        for row in await self._world.fetch("SELECT lane, result_sequence FROM lanes"):
            lane, sequence = row
            known, since = self._last.get(lane, (-1, now))
            if sequence != known:
                self._last[lane] = sequence, now
            self.longest[lane] = max(self.longest[lane], now - since)


async def test_storm__of_consumers_that_join_leave_die_and_freeze(
    world: World, fleet: Fleet
) -> None:
    chance = random.Random(30)
    workload = Workload(seed=30, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumers: dict[str, ConsumerProcess] = {}
    for name in NAMES[:2]:
        consumers[name] = await fleet.start(name, lease_seconds=LEASE_SECONDS)
    await world.shared({"a": {2}, "b": {2}})
    standstill = Standstill(world)
    ends = time.monotonic() + STORM_SECONDS
    while time.monotonic() < ends:
        await world.send(
            each for lane in range(PARTITIONS_TOTAL) for each in workload.lane_updates(lane, 10)
        )
        await _change(chance, fleet, consumers)
        for _ in range(5):
            await standstill.look()
            await asyncio.sleep(CHANGE_EVERY / 5)
    for consumer in consumers.values():
        consumer.resume()
    consumers = {name: each for name, each in consumers.items() if each.running}
    if not consumers:
        consumers["a"] = await fleet.start("a", lease_seconds=LEASE_SECONDS)
    await world.settled()
    await standstill.look()
    share = {PARTITIONS_TOTAL // len(consumers), -(-PARTITIONS_TOTAL // len(consumers))}
    await world.shared(dict.fromkeys(consumers, share))
    assert max(standstill.longest.values()) < STANDS_STILL_MAX, dict(standstill.longest)
    for consumer in consumers.values():
        assert await consumer.terminated() == 0
    await verify(world)


async def _change(
    chance: random.Random, fleet: Fleet, consumers: dict[str, ConsumerProcess]
) -> None:
    """One of them comes, goes, dies, freezes or thaws; one is always there."""
    name = chance.choice(NAMES)
    consumer = consumers.get(name)
    if consumer is None or not consumer.running:
        consumers[name] = await fleet.start(name, lease_seconds=LEASE_SECONDS)
        return
    match chance.choice(("leave", "die", "freeze", "thaw")):
        case "leave" if _others(consumers, name):
            consumer.resume()
            consumer.terminate()
        case "die" if _others(consumers, name):
            await consumer.killed()
        case "freeze" if _others(consumers, name):
            consumer.pause()
        case _:
            consumer.resume()


def _others(consumers: dict[str, ConsumerProcess], name: str) -> bool:
    return any(each.running for other, each in consumers.items() if other != name)


async def test_stall__of_an_event_loop_beyond_its_lease(world: World, fleet: Fleet) -> None:
    """Its thread hangs in the middle of a transaction; what waits in its sockets is stale."""
    workload = Workload(seed=31, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(400))
    stalled = await fleet.start(
        "stalled", stall_at="before_commit:6", stall_seconds=8.0, batch_records_max=40
    )
    await stalled.said("stalls")
    peer = await fleet.start("peer")
    await peer.said("lane_taken")
    await world.shared({"stalled": {2}, "peer": {2}})
    await world.send(workload.mixed(200))
    await world.settled()
    assert await stalled.terminated() == 0
    assert await peer.terminated() == 0
    await verify(world)


async def test_stall__that_does_not_end_ends_the_process(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=32, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.mixed(200))
    stalled = await fleet.start(
        "stalled",
        stall_at="after_publish:3",
        stall_seconds=60.0,
        watchdog_seconds=4,
        stall_watch=True,
        batch_records_max=40,
    )
    assert await stalled.ended() == 70
    again = await fleet.start("stalled")
    await world.settled()
    assert await again.terminated() == 0
    await verify(world)
