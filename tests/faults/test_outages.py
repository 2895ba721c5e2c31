"""A server killed or frozen under load: the lanes wait, go on by themselves, and nothing is wrong.

These tests have servers of their own, which no other test misses.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from contract.topics import Topics
from migrations.runner import migrate_up
from producer.admin import apply_topics
from stack.containers import ContainerStack
from stack.servers import Servers
from tests.conftest import PARTITIONS_TOTAL, OwnStack, url_of
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.outage import Outage
from tests.faults.process import EXIT_FAILED
from tests.faults.workload import Workload
from tests.faults.world import World

CHUNK = 50
COMMANDS_TOTAL = 3000
SMALL_DISK_MIB = 32
READ_ONLY = "PostgreSQL does not answer (ReadOnlySQLTransactionError)"


@pytest.fixture
async def world(own_stack: OwnStack) -> AsyncIterator[World]:
    """In place of the one on shared servers; `fleet` follows it."""
    servers: Servers = await asyncio.to_thread(own_stack.start)
    database_url = url_of(servers, f"test_{uuid.uuid4().hex[:12]}")
    await migrate_up(database_url, report=lambda _line: None)
    kafka = {"bootstrap_servers": servers.kafka_bootstrap_servers}
    topics = Topics(prefix=f"t{uuid.uuid4().hex[:12]}.")
    await apply_topics(kafka, topics, partitions_total=PARTITIONS_TOTAL)
    world = World(database_url=database_url, kafka=kafka, topics=topics)
    await world.start()
    yield world
    await world.stop()


@asynccontextmanager
async def under_load(world: World, fleet: Fleet, **settings: Any) -> AsyncIterator[Outage]:
    """A consumer at work on commands of which few are settled; afterwards all of them are."""
    workload = Workload(seed=50, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(COMMANDS_TOTAL))
    consumer = await fleet.start(batch_records_max=CHUNK, **settings)
    await world.until(
        lambda: world.holds(f"SELECT min(result_sequence) > {2 * CHUNK} FROM lanes"),
        what="at work",
    )
    yield Outage(world, consumer, workload)
    await world.settled(seconds=60)
    for each in fleet.consumers:
        assert not each.running or await each.terminated() == 0
    tally = await verify(world)
    assert tally.kinds.total() > COMMANDS_TOTAL


async def test_postgresql__killed_and_started_again(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        await asyncio.to_thread(own_stack.postgres.kill)
        await outage.consumer.said("lane_paused")
        await outage.consumer.said("membership_paused")
        await outage.lasts()
        await asyncio.to_thread(own_stack.start)
        await outage.is_over()
        await outage.consumer.said("membership_resumed")


async def test_postgresql__frozen_and_thawed(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        own_stack.postgres.pause()
        await outage.consumer.said("lane_paused")
        await outage.consumer.said("membership_paused")
        await outage.lasts()
        own_stack.postgres.resume()
        await outage.is_over()
        await outage.consumer.said("membership_resumed")


async def test_kafka__killed_and_started_again(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        await asyncio.to_thread(own_stack.kafka.kill)
        await outage.consumer.said("publisher_paused")
        await outage.lasts()
        await asyncio.to_thread(own_stack.start)
        await outage.is_over()
        await outage.consumer.said("publisher_resumed")


async def test_kafka__frozen_and_thawed(world: World, fleet: Fleet, own_stack: OwnStack) -> None:
    async with under_load(world, fleet) as outage:
        own_stack.kafka.pause()
        await outage.consumer.said("publisher_paused")
        await outage.lasts()
        own_stack.kafka.resume()
        await outage.is_over()
        await outage.consumer.said("publisher_resumed")


async def test_sigterm__with_kafka_frozen_ends_within_its_bound(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        own_stack.kafka.pause()
        # Decided and not published: the lanes wait for room, and then for the drain.
        assert await outage.consumer.terminated() == 0
        own_stack.kafka.resume()
        assert not await world.value("SELECT count(*) FROM lanes WHERE owner IS NOT NULL")
        await fleet.start("two", batch_records_max=CHUNK)


async def test_sigterm__with_postgresql_frozen_ends_within_its_bound(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        own_stack.postgres.pause()
        assert await outage.consumer.terminated() == 0
        own_stack.postgres.resume()
        # Nobody could be told: its lanes are free when its lease has ended.
        await fleet.start("two", batch_records_max=CHUNK)


async def test_both__killed_at_once_and_started_again(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    async with under_load(world, fleet) as outage:
        consumer = outage.consumer
        await asyncio.gather(
            asyncio.to_thread(own_stack.postgres.kill), asyncio.to_thread(own_stack.kafka.kill)
        )
        await consumer.said("membership_paused")
        # Who starts while they are away ends with the code for it; its supervisor tries again.
        late = await fleet.start("late", batch_records_max=CHUNK)
        assert await late.ended() == EXIT_FAILED
        assert late.actions("consumer_failed")[0]["error"] in ("StoreAway", "KafkaConnectionError")
        await outage.lasts()
        await asyncio.to_thread(own_stack.start)
        await outage.is_over()
        await consumer.said("membership_resumed")
        await fleet.start("late", batch_records_max=CHUNK)
        await world.shared({"one": {2}, "late": {2}})


def server_of(world: World) -> World:
    """For statements about the database of a world: from a session in another one."""
    url = urlunsplit(urlsplit(world.database_url)._replace(path="/postgres"))
    return World(database_url=url, kafka=world.kafka, topics=world.topics)


def demand_files(stack: OwnStack) -> None:
    if isinstance(stack, ContainerStack):
        pytest.skip("the servers' files are inside their containers")


@pytest.fixture
def small_disk(own_stack: OwnStack) -> Iterator[Path]:
    """A file system of some megabytes that PostgreSQL may write to."""
    demand_files(own_stack)
    own_stack.start()
    folder = Path(tempfile.mkdtemp(prefix="funnel-small-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        folder.rmdir()
        pytest.skip("this machine lets nobody mount a small file system")
    try:
        room = folder / "postgres"
        room.mkdir()
        if os.geteuid() == 0:
            folder.chmod(0o755)
            shutil.chown(room, "nobody")
        yield room
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Write a file until no byte more finds room."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


async def test_postgresql__with_a_full_disk_goes_on_when_there_is_room(
    world: World, fleet: Fleet, small_disk: Path
) -> None:
    database = urlsplit(world.database_url).path.removeprefix("/")
    server = server_of(world)
    await server.fetch(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    await server.fetch(f"ALTER DATABASE {database} SET TABLESPACE small")
    try:
        async with under_load(world, fleet) as outage:
            ballast = fill(small_disk.parent)
            paused = await outage.consumer.said("lane_paused")
            assert "DiskFullError" in paused["cause"]
            await outage.lasts()
            ballast.unlink()
            await outage.is_over()
            await outage.consumer.said("lane_resumed")
    finally:
        await fleet.stop()
        await server.fetch(f"DROP DATABASE {database} WITH (FORCE)")
        await server.fetch("DROP TABLESPACE small")


async def test_postgresql__read_only_and_out_of_connections(world: World, fleet: Fleet) -> None:
    """As after a failover: sessions are read-only, and then new ones are not to be had."""
    parts = urlsplit(world.database_url)
    database = parts.path.removeprefix("/")
    server = server_of(world)
    await server.fetch("DROP ROLE IF EXISTS few")
    await server.fetch("CREATE ROLE few LOGIN PASSWORD 'few' IN ROLE funnel_consumer")
    url = urlunsplit(parts._replace(netloc=f"few:few@{parts.hostname}:{parts.port}"))
    others = f"FROM pg_stat_activity WHERE datname = '{database}' AND usename = 'few'"
    async with under_load(world, fleet, database_url=url) as outage:
        consumer = outage.consumer
        await server.fetch(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        # First of the sessions that there are: if they just ended, that would be the cause told.
        async with told_to_all(server, "default_transaction_read_only = on"):
            await consumer.said("membership_paused", cause=READ_ONLY)
        await server.fetch(f"SELECT pg_terminate_backend(pid, 5000) {others}")
        # Sessions that are read-only stay so; only new ones are not.
        await server.fetch("ALTER ROLE few CONNECTION LIMIT 0")
        await server.fetch(f"ALTER DATABASE {database} RESET default_transaction_read_only")
        await world.until(
            lambda: server.holds(f"SELECT count(*) = 0 {others}"), what="read-only sessions gone"
        )
        await outage.lasts()
        await server.fetch("ALTER ROLE few CONNECTION LIMIT -1")
        await outage.is_over()
        await consumer.said("membership_resumed")
        for lane in range(PARTITIONS_TOTAL):
            await consumer.said("lane_resumed", lane=lane)


async def test_commands__with_a_corrupted_batch_halts_that_lane(
    world: World, fleet: Fleet, own_stack: OwnStack, own_folder: Path
) -> None:
    demand_files(own_stack)
    workload = Workload(seed=51, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    consumer.pause()
    await consumer.paused()
    await world.send(workload.lane_updates(0, 20))
    await world.commands.read_on()
    (segment,) = (own_folder / "kafka" / "data" / f"{world.topics.commands}-0").glob("*.log")
    flip = _flipped(segment)
    consumer.resume()
    halted = await consumer.said("lane_halted", lane=0)
    assert "cannot be read" in halted["cause"]
    for lane in (1, 2, 3):
        await world.send(workload.lane_updates(lane, 20))
    await world.settled(lanes=(1, 2, 3))
    assert {line["lane"] for line in consumer.actions("lane_halted")} == {0}
    # Repaired, it goes on by itself, and nothing says any more that it stands still.
    flip()
    await world.settled()
    await world.until(
        lambda: world.holds("SELECT bool_and(halted IS NULL) FROM lanes"), what="nothing halted"
    )
    assert await consumer.terminated() == 0
    await verify(world)


@asynccontextmanager
async def told_to_all(server: World, setting: str) -> AsyncIterator[None]:
    """A setting of the whole server, at once."""
    await server.fetch(f"ALTER SYSTEM SET {setting}")
    await server.fetch("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        await server.fetch(f"ALTER SYSTEM RESET {setting.split(maxsplit=1)[0]}")
        await server.fetch("SELECT pg_reload_conf()")


def _flipped(segment: Path) -> Callable[[], None]:
    """Invert the last byte of a log segment, inside its last batch; the answer inverts it back."""

    def flip() -> None:
        with segment.open("r+b") as file:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 0xFF]))

    position = len(segment.read_bytes().rstrip(b"\0")) - 1
    flip()
    return flip


async def test_kafka__killed_while_the_lanes_have_nothing_to_do(
    world: World, fleet: Fleet, own_stack: OwnStack
) -> None:
    workload = Workload(seed=51, candidates_for_each_lane=2)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    await asyncio.to_thread(own_stack.kafka.kill)
    for lane in range(PARTITIONS_TOTAL):
        await consumer.said("lane_paused", lane=lane)
    outage = Outage(world, consumer, workload)
    await outage.lasts()
    await asyncio.to_thread(own_stack.kafka.start)
    await outage.is_over()
    for lane in range(PARTITIONS_TOTAL):
        await consumer.said("lane_resumed", lane=lane)
    await world.send(workload.mixed(50))
    await world.settled()
    assert await consumer.terminated() == 0
    await verify(world)
