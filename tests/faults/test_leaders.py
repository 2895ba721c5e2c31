"""Brokers of a cluster that die one after the other: leaders and coordinators move, lanes go on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from contract.topics import Topics
from producer.admin import apply_topics
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.cluster import NODES, Cluster
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.outage import Outage
from tests.faults.workload import Workload
from tests.faults.world import World

COMMANDS_TOTAL = 1500
HEALED_WITHIN = 40.0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


@pytest.fixture
async def world(cluster: Cluster, database_url: str) -> AsyncIterator[World]:
    """In place of the one on shared servers; `fleet` follows it."""
    topics = Topics(prefix="cluster.")
    await apply_topics(cluster.kafka, topics, partitions_total=PARTITIONS_TOTAL)
    world = World(database_url=database_url, kafka=cluster.kafka, topics=topics)
    await world.start()
    yield world
    await world.stop()


@pytest.mark.timeout(400)
async def test_leaders__move_when_their_brokers_die(
    world: World, fleet: Fleet, cluster: Cluster
) -> None:
    workload = Workload(seed=61, candidates_for_each_lane=6)
    await world.send(workload.creations())
    consumer = await fleet.start(batch_records_max=20)
    await world.settled()
    for number in NODES[1:]:
        led = await leaders(world)
        assert number in led.values()
        await world.send(workload.mixed(COMMANDS_TOTAL))
        await asyncio.to_thread(cluster.nodes[number].kill)
        await Outage(world, consumer, workload).is_over()
        assert number not in (await leaders(world)).values()
        await asyncio.to_thread(cluster.nodes[number].start)
        await world.until(lambda: in_sync(world), what="in sync again", seconds=HEALED_WITHIN)
    await world.settled(seconds=90)
    assert await consumer.terminated() == 0
    await verify(world)


async def leaders(world: World) -> dict[tuple[str, int], int]:
    return {at: leader for at, (leader, _) in (await partitions(world)).items()}


async def in_sync(world: World) -> bool:
    return all(len(isr) == len(NODES) for _, isr in (await partitions(world)).values())


async def partitions(world: World) -> dict[tuple[str, int], tuple[int, list[int]]]:
    """Of every topic, the coordinators' included: its leader and those in sync with it."""
    admin = AIOKafkaAdminClient(**world.kafka)
    await admin.start()
    try:
        return {
            (topic["topic"], partition["partition"]): (partition["leader"], partition["isr"])
            for topic in await admin.describe_topics()
            for partition in topic["partitions"]
        }
    finally:
        await admin.close()
