"""A deployment and its consumers for each fault test; whatever happened, none is left running."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.topics import Topics
from stack.containers import ContainerStack, unavailable
from stack.embedded import EmbeddedStack
from tests.conftest import OwnStack
from tests.faults.fleet import Fleet
from tests.faults.world import World


@pytest.fixture(scope="session")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@pytest.fixture(scope="session")
def own_stack(own_folder: Path) -> Iterator[OwnStack]:
    """Servers that no other test misses, for those that kill, freeze or fill them."""
    stack: OwnStack
    if os.environ.get("FUNNEL_TEST_STACK") != "containers":
        stack = EmbeddedStack(own_folder, durable=False)
    elif (reason := unavailable()) is None:
        stack = ContainerStack()
    else:
        pytest.skip(f"FUNNEL_TEST_STACK=containers: {reason}")
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture
async def world(
    database_url: str, kafka_options: dict[str, object], topics: Topics
) -> AsyncIterator[World]:
    world = World(database_url=database_url, kafka=kafka_options, topics=topics)
    await world.start()
    yield world
    await world.stop()


@pytest.fixture
async def fleet(world: World) -> AsyncIterator[Fleet]:
    fleet = Fleet(database_url=world.database_url, kafka=world.kafka, topics=world.topics)
    yield fleet
    try:
        await fleet.stop()
    finally:
        sys.stdout.write(fleet.story())  # shown if the test failed
