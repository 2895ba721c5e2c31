"""The network between us and a server: cut, half-open, slow, reset, under load and without any.

Each fault is over before the next begins; the lanes go on by themselves, say so once for each
change of state, and do not spin meanwhile.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.fleet import Fleet
from tests.faults.link import Link, link_to
from tests.faults.oracle import verify
from tests.faults.outage import Outage, demand_lines_in_turn
from tests.faults.workload import Workload
from tests.faults.world import World

FAULTS: dict[str, Callable[[Link], None]] = {
    "reset": lambda link: link.drop(reset=True),
    "cut": Link.cut,
    "half-open": Link.fall_silent,
    "slow": lambda link: link.slow_down(0.02),
}
WAYS = {"postgresql": ("postgres",), "kafka": ("kafka",), "both": ("postgres", "kafka")}


@pytest.fixture
async def links(world: World) -> AsyncIterator[dict[str, Link]]:
    postgres = urlsplit(world.database_url)
    host, _, port = str(world.kafka["bootstrap_servers"]).rpartition(":")
    async with (
        link_to(str(postgres.hostname), postgres.port or 0) as to_postgres,
        link_to(host, int(port)) as to_kafka,
    ):
        yield {"postgres": to_postgres, "kafka": to_kafka}


@pytest.mark.parametrize("ways", WAYS.values(), ids=WAYS)
async def test_network__cut_half_open_slow_and_reset(
    world: World, fleet: Fleet, links: dict[str, Link], ways: tuple[str, ...]
) -> None:
    workload = Workload(seed=95, candidates_for_each_lane=4)
    await world.send(workload.creations())
    _, _, port = str(world.kafka["bootstrap_servers"]).rpartition(":")
    consumer = await fleet.start(
        database_url=links["postgres"].url(world.database_url),
        detours={port: links["kafka"].port},
        batch_records_max=20,
    )
    await world.settled()
    outage = Outage(world, consumer, workload)
    for name, begin in FAULTS.items():
        commands = workload.mixed(200)
        await world.send(commands[:100])
        for way in ways:
            begin(links[way])
        if name in ("cut", "half-open"):
            # The lanes have work in hand, then none that they could get at.
            await outage.lasts()
        await world.send(commands[100:])
        if name != "slow":
            for way in ways:
                links[way].heal()
            await outage.is_over()
        await world.settled()
        for way in ways:
            links[way].heal()
    demand_lines_in_turn(consumer)
    assert await consumer.terminated() == 0
    await verify(world)


async def test_servers__unreachable_at_start(
    world: World, fleet: Fleet, links: dict[str, Link]
) -> None:
    """`funnel consume` ends with a code that says so, and its supervisor starts it again."""
    workload = Workload(seed=96, candidates_for_each_lane=2)
    await world.send(workload.creations())
    _, _, port = str(world.kafka["bootstrap_servers"]).rpartition(":")
    settings: dict[str, Any] = {
        "database_url": links["postgres"].url(world.database_url),
        "detours": {port: links["kafka"].port},
    }
    for way, error in (("postgres", "StoreAway"), ("kafka", "KafkaConnectionError")):
        links[way].cut()
        consumer = await fleet.start("one", **settings)
        assert await consumer.ended() != 0
        assert consumer.actions("consumer_failed")[0]["error"] == error
        links[way].heal()
    consumer = await fleet.start("one", **settings)
    await world.settled()
    assert await consumer.terminated() == 0
    await verify(world)
