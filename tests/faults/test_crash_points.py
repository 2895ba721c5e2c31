"""A consumer killed at every named step; the next one goes on as if nothing had happened."""

import signal
from datetime import timedelta

import pytest

from audit.outputs import Output
from audit.verify import verify as audit
from consumer.store import open_pool
from contract.events import DEFAULT_SOURCE, EventBuilder
from contract.journal import JournalRow
from funnel.crash import CRASH_POINTS
from producer.journal import JournalReader
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.broker import fence, forget_transaction
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.oracle import verify
from tests.faults.process import EXIT_FAILED
from tests.faults.workload import Workload
from tests.faults.world import World

COMMANDS_TOTAL = 600
LEASE = timedelta(seconds=60)
TAKEOVER_POINTS = ("before_fence", "after_fence", "after_tail")
# The sixth time: each of the four lanes has begun, and all have work in hand.
BULK_POINTS = (
    "after_write_operations",
    "after_chunk_read",
    "after_chunk_decide",
    "after_chunk_candidates",
    "after_chunk_journal",
    "after_chunk_operation",
)
SEAL_POINTS = ("after_seal_salts", "after_seal_link", "after_seal")
CHECKPOINT_POINTS = tuple(point for point in CRASH_POINTS if point.startswith("after_checkpoint"))
"""Of another process: see `tests/audit/test_retention.py`."""
ERASE_POINTS = ("after_write_erasures", "after_erase_step", "after_erase_journal")
UNDER_LOAD = [
    f"{point}:6"
    for point in CRASH_POINTS
    if point
    not in (*TAKEOVER_POINTS, *BULK_POINTS, *ERASE_POINTS, *SEAL_POINTS, *CHECKPOINT_POINTS)
]


async def load(world: World) -> None:
    """Hundreds of commands, several for each candidate, with reroutes and dead letters."""
    workload = Workload(seed=1, candidates_for_each_lane=6)
    await world.send(workload.creations())
    await world.send(workload.mixed(COMMANDS_TOTAL))


async def recover(world: World, fleet: Fleet) -> None:
    """A new process under the same name takes its lanes back without waiting for the lease."""
    await goes_on(world, await fleet.start())


async def goes_on(world: World, consumer: ConsumerProcess) -> None:
    """To the end, and all is as if nothing had happened."""
    await world.settled()
    assert await consumer.terminated() == 0
    tally = await verify(world)
    assert set(tally.kinds) == {"command", "reroute", "dead_letter"}
    assert {"applied", "merged", "duplicate", "rejected"} <= set(tally.outcomes)


async def killed_at(fleet: Fleet, point: str) -> None:
    consumer = await fleet.start(crash_at=point, batch_records_max=40)
    assert await consumer.ended() == -signal.SIGKILL


async def unpublished(world: World) -> tuple[int, list[JournalRow]]:
    """The lane with most of it, and what its journal has behind its last published result."""
    for lane in range(PARTITIONS_TOTAL):
        await fence(world.kafka, world.topics, lane)
    await world.results.read_on()
    async with await open_pool(world.database_url, lease=LEASE, lanes_max=1) as pool:
        journal = JournalReader(pool)
        found = [
            (lane, await journal.after(lane, len(records), 1000))
            for lane, records in enumerate(world.results.records)
        ]
    return max(found, key=lambda each: len(each[1]))


@pytest.mark.parametrize("point", UNDER_LOAD)
async def test_kill__under_load(world: World, fleet: Fleet, point: str) -> None:
    await load(world)
    await killed_at(fleet, point)
    await recover(world, fleet)


@pytest.mark.parametrize("point", TAKEOVER_POINTS)
async def test_kill__in_the_middle_of_a_takeover(world: World, fleet: Fleet, point: str) -> None:
    await load(world)
    await killed_at(fleet, "after_sends:6")
    await killed_at(fleet, point)
    await recover(world, fleet)


@pytest.mark.parametrize("told", ["", "results", "changes"])
async def test_transaction__forgotten_by_kafka_is_ended_by_the_next_owner(
    world: World, fleet: Fleet, told: str
) -> None:
    """Nowhere committed: aborted, published anew. Somewhere committed: committed everywhere."""
    await load(world)
    await killed_at(fleet, "before_publish:6")
    lane, rows = await unpublished(world)
    builder = EventBuilder(world.topics)
    records = [record for row in rows for record in builder.records(row)]
    told_topics = {getattr(world.topics, told)} if told else set()
    await forget_transaction(world.kafka, world.topics, lane, records, told_topics)
    consumer = await fleet.start()
    await consumer.said("publisher_ended_forgotten")
    (line,) = consumer.actions("publisher_ended_forgotten")
    assert (line["lane"], line["committed"]) == (lane, bool(told))
    await goes_on(world, consumer)


@pytest.mark.parametrize("point", ["after_decide:6", "before_publish:6"])
async def test_lane__that_fails_unexpectedly_ends_the_process(
    world: World, fleet: Fleet, point: str
) -> None:
    await load(world)
    consumer = await fleet.start(fail_at=point, batch_records_max=40)
    assert await consumer.ended() == EXIT_FAILED
    assert consumer.actions("consumer_failed")[0]["error"] == "RuntimeError"
    # The other lanes were handed over in order, and nobody waits for this one's lease.
    assert not await world.value("SELECT count(*) FROM consumers")
    await recover(world, fleet)


async def test_kill__while_candidates_are_erased(world: World, fleet: Fleet) -> None:
    """Killed with the erasure decided, with it settled but nothing emptied, and at its very end."""
    workload = Workload(seed=2, candidates_for_each_lane=2)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    await world.send(workload.erasures())
    for point in ERASE_POINTS:
        await killed_at(fleet, point)
    consumer = await fleet.start()
    total = len(workload.candidates)
    await world.until(
        lambda: world.holds(f"SELECT count(completed_at) = {total} FROM erasures"),
        what="all erased",
    )
    assert await consumer.terminated() == 0
    [counts] = await world.fetch(
        "SELECT count(*) FILTER (WHERE kind = 'erased') AS told, count(change) AS readable,"
        " count(*) FILTER (WHERE outcome = 'accepted') AS accepted FROM journal"
    )
    assert tuple(counts) == (total, 0, total)
    assert not await world.value("SELECT count(*) FROM candidates")
    output = Output(kafka=world.kafka, topics=world.topics, event_source=DEFAULT_SOURCE)
    findings = await audit(
        world.database_url, deduplication=timedelta(days=35), report=lambda *_: None, output=output
    )
    assert not findings.listed


async def test_kill__while_the_journal_is_sealed(world: World, fleet: Fleet) -> None:
    """Nothing is sealed twice or left out, and lanes notice nothing."""
    await load(world)
    links = "SELECT count(*) FROM journal_seals"
    for point, sealed in zip(SEAL_POINTS, (0, 0, 1), strict=True):
        consumer = await fleet.start(crash_at=point, seal_seconds=0.05)
        assert await consumer.ended() == -signal.SIGKILL
        assert await world.value(links) == sealed, point
    consumer = await fleet.start(seal_seconds=0.05)
    await world.settled()
    await world.until(
        lambda: world.holds(
            "SELECT bool_and(l.result_sequence IS NOT DISTINCT FROM (SELECT max(s.last_result)"
            " FROM journal_seals AS s WHERE s.lane = l.lane)) FROM lanes AS l"
        ),
        what="all sealed",
    )
    assert await consumer.terminated() == 0
    await verify(world)
    assert await world.value("SELECT sum(rows_total) FROM journal_seals") == await world.value(
        "SELECT count(*) FROM journal"
    )
    assert not await world.value(
        "SELECT count(*) FROM (SELECT first_result, lag(last_result, 1, 0::bigint) OVER ("
        "PARTITION BY lane ORDER BY link) AS before FROM journal_seals) AS s"
        " WHERE first_result <> before + 1"
    )
    findings = await audit(
        world.database_url, deduplication=timedelta(days=35), report=lambda *_: None,
        chain_heads=(),
    )  # fmt: skip
    assert not findings.listed
