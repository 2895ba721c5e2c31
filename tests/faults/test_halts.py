"""Where going on would break a promise a lane halts, says why and what to do; the others go on."""

import asyncio
import signal
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from consumer.source import FETCH_WAIT
from domain.limits import BACKLOG_BATCHES_MAX
from migrations.runner import migrate_up
from producer.admin import apply_topics
from tests.conftest import PARTITIONS_TOTAL
from tests.faults import broker
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World

CHUNK = 10


async def settled_once(world: World, fleet: Fleet, *, seed: int) -> Workload:
    """A first life: every lane has settled and published commands, its consumer has left."""
    workload = Workload(seed=seed, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.updates(200))
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    return workload


async def halted(
    world: World, consumer: ConsumerProcess, lanes: Collection[int], cause: str
) -> None:
    """These lanes have said why and what to do, and PostgreSQL keeps it for operators."""
    for lane in lanes:
        line = await consumer.said("lane_halted", lane=lane)
        assert cause in line["cause"]
        assert line["remedy"]

        async def noted(lane: int = lane, line: dict[str, Any] = line) -> bool:
            note = await world.value("SELECT halted FROM lanes WHERE lane = $1", lane)
            return note is not None and line["cause"] in note and line["remedy"] in note

        await world.until(noted, what=f"the halt of lane {lane} noted for operators")


async def others_go_on(
    world: World, workload: Workload, consumer: ConsumerProcess, lanes: Collection[int]
) -> None:
    """New commands of all other lanes are settled and published."""
    others = [lane for lane in range(PARTITIONS_TOTAL) if lane not in lanes]
    for lane in others:
        await world.send(workload.lane_updates(lane, 20))
    await world.settled(lanes=others)
    assert {line["lane"] for line in consumer.actions("lane_halted")} == set(lanes)


async def test_results__emptied_by_retention_before_a_takeover(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=10)
    ends = await world.results.stable_ends()
    await broker.expire(world.kafka, world.topics.results, dict(enumerate(ends)))
    await world.send(workload.updates(100))
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    # What was read before it expired is still compared.
    await verify(world)


async def test_results__emptied_behind_what_is_known_halts(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=11)
    await world.send(workload.lane_updates(0, 50))
    consumer = await fleet.start(crash_at="after_publish")
    assert await consumer.ended() == -signal.SIGKILL
    await world.results.read_on()
    ends = await world.results.stable_ends()
    await broker.expire(world.kafka, world.topics.results, {0: ends[0]})
    consumer = await fleet.start()
    await halted(world, consumer, {0}, "was emptied")
    await others_go_on(world, workload, consumer, {0})
    assert (await world.results.stable_ends())[0] == ends[0]


async def test_changes__refused_while_the_results_were_accepted(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=12)
    published = [len(records) for records in world.results.records]
    await broker.limit_message_bytes(world.kafka, world.topics, world.topics.changes, 2000)
    await world.send(workload.updates(400))
    consumer = await fleet.start(batch_records_max=CHUNK)
    for lane in range(PARTITIONS_TOTAL):
        await consumer.said("publisher_paused", lane=lane, error="MessageSizeTooLargeError")
    await waits_for_its_publisher(world, published)
    # Results were written and acknowledged, and yet no reader sees one.
    await world.results.read_on()
    assert [len(records) for records in world.results.records] == published
    await broker.limit_message_bytes(world.kafka, world.topics, world.topics.changes, None)
    await world.settled()
    assert await consumer.terminated() == 0
    await verify(world)


async def waits_for_its_publisher(world: World, published: list[int]) -> None:
    """Each lane applies on while a batch is being published, but only so far."""

    async def unpublished() -> list[int]:
        rows = await world.fetch("SELECT result_sequence FROM lanes ORDER BY lane")
        return [row[0] - total for row, total in zip(rows, published, strict=True)]

    async def next_applied() -> bool:
        return min(await unpublished()) > CHUNK

    await world.until(next_applied, what="the next batches are applied")
    await asyncio.sleep(1)  # nothing more may happen: there is no event to wait for
    # In the publisher's hands what waited, as much waiting again, and one that waits for room.
    assert max(await unpublished()) <= (2 * BACKLOG_BATCHES_MAX + 2) * CHUNK


async def test_results__deleted_halts_every_lane(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=13)
    await broker.delete_topic(world.kafka, world.topics.results)
    await world.send(workload.updates(20))
    consumer = await fleet.start()
    await halted(world, consumer, range(PARTITIONS_TOTAL), "is not there")
    await apply_topics(world.kafka, world.topics, partitions_total=PARTITIONS_TOTAL)
    # They are there again, and they are not the ones that the lanes wrote to.
    await world.until(
        lambda: world.holds("SELECT bool_and(halted LIKE '%ends at offset 0%') FROM lanes"),
        what="halted by the new topic",
    )


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "running"])
async def test_commands__deleted_and_recreated_halts(
    world: World, fleet: Fleet, restarted: bool
) -> None:
    workload = Workload(seed=14, candidates_for_each_lane=4)
    first_life = [each for each in workload.creations() if each.partition < 2]
    await world.send(first_life + workload.lane_updates(0, 40) + workload.lane_updates(1, 40))
    consumer = await fleet.start()
    await world.settled()
    if restarted:
        assert await consumer.terminated() == 0
    decided = await world.fetch("SELECT result_sequence FROM lanes ORDER BY lane")
    await broker.delete_topic(world.kafka, world.topics.commands)
    await apply_topics(world.kafka, world.topics, partitions_total=PARTITIONS_TOTAL)
    if restarted:
        # Lane 0 has fewer records than before, lane 1 has more.
        await world.send(workload.lane_updates(0, 10) + workload.lane_updates(1, 100))
        consumer = await fleet.start()
    await halted(world, consumer, {0, 1}, "")
    await world.reopen()
    await world.send(each for each in workload.creations() if each.partition >= 2)
    await others_go_on(world, workload, consumer, {0, 1})
    after = await world.fetch("SELECT result_sequence FROM lanes ORDER BY lane")
    assert after[:2] == decided[:2]


@pytest.mark.parametrize("restarted", [True, False], ids=["restarted", "running"])
async def test_commands__expired_under_the_cursor_halts(
    world: World, fleet: Fleet, restarted: bool
) -> None:
    workload = await settled_once(world, fleet, seed=15)
    if not restarted:
        consumer = await fleet.start()
        await consumer.said("lane_taken", lane=3)
        await world.send(workload.updates(20))
        await world.settled()
        consumer.pause()
        await consumer.paused()
        await asyncio.sleep(2 * FETCH_WAIT.total_seconds())  # a fetch under way finds nothing yet
    await world.send(workload.lane_updates(0, 50))
    await world.commands.read_on()
    next_offset = await world.value("SELECT next_offset FROM lanes WHERE lane = 0")
    await broker.expire(world.kafka, world.topics.commands, {0: next_offset + 20})
    if restarted:
        consumer = await fleet.start()
    else:
        consumer.resume()
    await halted(world, consumer, {0}, "no longer has offset")
    await others_go_on(world, workload, consumer, {0})
    assert await world.value("SELECT next_offset FROM lanes WHERE lane = 0") == next_offset


async def test_partitions__added_while_running_halts_every_lane(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=16, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    await broker.add_partitions(world.kafka, world.topics.commands, 2 * PARTITIONS_TOTAL)
    await halted(world, consumer, range(PARTITIONS_TOTAL), "has 8 partitions")
    assert await consumer.terminated() == 0


async def test_results__with_a_foreign_record_halts(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=17)
    await broker.write(world.kafka, world.topics.results, 0, b"{}", b"somebody")
    ends = await world.results.stable_ends()
    consumer = await fleet.start()
    await halted(world, consumer, {0}, "has no sequence")
    await others_go_on(world, workload, consumer, {0})
    assert (await world.results.stable_ends())[0] == ends[0]


async def test_journal__restored_from_an_old_backup_halts(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=18)
    database = urlsplit(world.database_url).path.removeprefix("/")
    backup = f"{database}_backup"
    server = _database(world, "postgres")
    await server.fetch(f"CREATE DATABASE {backup} TEMPLATE {database}")
    try:
        await world.send(workload.lane_updates(0, 30) + workload.lane_updates(1, 30))
        consumer = await fleet.start()
        await world.settled()
        assert await consumer.terminated() == 0
        ends = await world.results.stable_ends()
        restored = _database(world, backup)
        consumer = await fleet.start(database_url=restored.database_url)
        await halted(restored, consumer, {0, 1}, "the output ends at")
        await world.send(workload.lane_updates(2, 30))
        wanted = await restored.value("SELECT result_sequence + 30 FROM lanes WHERE lane = 2")
        await restored.until(
            lambda: restored.holds(f"SELECT result_sequence = {wanted} FROM lanes WHERE lane = 2"),
            what="lane 2 goes on",
        )
        assert (await world.results.stable_ends())[:2] == ends[:2]
        await consumer.terminated()
    finally:
        await server.fetch(f"DROP DATABASE {backup} WITH (FORCE)")


async def test_journal__with_a_hole_behind_the_output_halts(world: World, fleet: Fleet) -> None:
    workload = await settled_once(world, fleet, seed=19)
    await world.send(workload.lane_updates(0, 60))
    consumer = await fleet.start(crash_at="before_publish", batch_records_max=20)
    assert await consumer.ended() == -signal.SIGKILL
    await world.results.read_on()
    published = len(world.results.records[0])
    gone = "DELETE FROM journal WHERE lane = 0 AND result_sequence = $1 RETURNING lane"
    assert await world.fetch(gone, published + 1)
    consumer = await fleet.start()
    await halted(world, consumer, {0}, f"a hole behind result {published}")
    await others_go_on(world, workload, consumer, {0})
    await world.results.read_on()
    assert len(world.results.records[0]) == published


def _database(world: World, name: str) -> World:
    url = urlunsplit(urlsplit(world.database_url)._replace(path=f"/{name}"))
    return World(database_url=url, kafka=world.kafka, topics=world.topics)


async def test_results__of_another_deployment_of_the_same_name_halt(
    world: World, fleet: Fleet
) -> None:
    """Two databases, one set of topics: a lane whose output is not its own stops writing there."""
    workload = Workload(seed=21, candidates_for_each_lane=4)
    await world.send(workload.creations())
    ours = await fleet.start("ours")
    await world.settled()
    database = urlsplit(world.database_url).path.removeprefix("/")
    server = _database(world, "postgres")
    other = _database(world, f"{database}_other")
    await migrate_up(other.database_url, report=lambda _line: None)
    try:
        # It decides the same commands for itself; what stands on the topic is not what it decided.
        theirs = await fleet.start("theirs", database_url=other.database_url)
        await halted(other, theirs, range(PARTITIONS_TOTAL), "")
        await world.send(workload.updates(100))
        await world.settled()
        assert not ours.actions("lane_halted")
        assert await theirs.terminated() == 0
    finally:
        await server.fetch(f"DROP DATABASE {database}_other WITH (FORCE)")
    assert await ours.terminated() == 0
    await verify(world)


async def test_journal__restored_and_gone_on_since_halts(world: World, fleet: Fleet) -> None:
    """The numbers fit again, the results behind them do not: told by the last one's time."""
    await settled_once(world, fleet, seed=22)
    gone_on = "UPDATE journal SET recorded_at = recorded_at + interval '1 ms' WHERE lane = 0"
    await world.fetch(gone_on)
    consumer = await fleet.start()
    await halted(world, consumer, {0}, "is not the journal's")
    await consumer.terminated()
