"""A long lag, of large records or bulks, too: memory stays below the stated bound."""

import asyncio
import os
from datetime import timedelta
from uuid import uuid4

import pytest

from audit.verify import verify as audit
from domain.limits import BULK_CANDIDATE_IDS_MAX, BULK_CHUNK_ITEMS, CONSUMER_RESIDENT_MIB_MAX
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.operations import COUNTED, bulk, verify_operations
from tests.faults.oracle import verify
from tests.faults.process import peak_bytes
from tests.faults.workload import Workload
from tests.faults.world import World

RECORD_BYTES = 1_000_000
RECORDS_FOR_EACH_LANE = 20
LAG_RECORDS = int(os.environ.get("FUNNEL_TEST_LAG_RECORDS", "10000"))
SENT_AT_ONCE = 5000
SETTLED_MIN = min(LAG_RECORDS, 200_000)
"""Of a very long lag, enough for memory to have grown if it could."""
KNOWN = 1000
"""Candidates of a bulk that there are."""


async def demand_little_memory(consumer: ConsumerProcess) -> None:
    peak = await asyncio.to_thread(peak_bytes, consumer.pid)
    assert peak < CONSUMER_RESIDENT_MIB_MAX * 2**20, f"{peak / 2**20:.0f} MiB"


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
    await demand_little_memory(consumer)
    assert await consumer.terminated() == 0
    tally = await verify(world)
    assert tally.kinds["dead_letter"] == len(large)


async def test_memory__under_bulks_of_as_many_ids_as_there_may_be(
    world: World, fleet: Fleet
) -> None:
    """One on each lane, with as many expected versions, 1.7 MB each; beside them single ones."""
    workload = Workload(seed=99, candidates_for_each_lane=2, candidates_of_lane={0: KNOWN})
    await world.send(workload.creations())
    operations = []
    for lane in range(PARTITIONS_TOTAL):
        known = workload.candidates_at(lane)
        ids = [key[1] for key in known]
        ids += [str(uuid4()) for _ in range(BULK_CANDIDATE_IDS_MAX - len(ids))]
        operations.append(
            bulk(
                known[0][0], {"tags": {"add": ["large"]}}, f"large-{lane}", candidate_ids=ids,
                expected_versions=dict.fromkeys(ids, 1), on_conflict="overwrite",
            )
        )  # fmt: skip
    await world.send([record for record, _ in operations], max_request_size=4 * RECORD_BYTES)
    await world.send(workload.mixed(200))
    consumer = await fleet.start(batch_records_max=1000, chunk_items=BULK_CHUNK_ITEMS)
    await world.settled(seconds=100)
    await demand_little_memory(consumer)
    assert await consumer.terminated() == 0
    await verify(world)
    found = await verify_operations(world)
    assert {found[each]["total"] for _, each in operations} == {BULK_CANDIDATE_IDS_MAX}
    first = found[operations[0][1]]
    told = {outcome: first[outcome] for outcome in COUNTED if first[outcome]}
    assert told == {"applied": KNOWN, "not_found": BULK_CANDIDATE_IDS_MAX - KNOWN}


@pytest.mark.timeout(300 + LAG_RECORDS // 5000)
async def test_memory__under_a_long_lag(world: World, fleet: Fleet) -> None:
    """Ten million by `make long-lag`; what is read at once does not depend on what waits."""
    workload = Workload(seed=100, candidates_for_each_lane=25)
    await world.send(workload.creations())
    sent_again = workload.updates(SENT_AT_ONCE)
    for _ in range(0, LAG_RECORDS, SENT_AT_ONCE):
        await world.send(sent_again)
    consumer = await fleet.start(batch_records_max=1000)
    await world.until(
        lambda: world.holds(f"SELECT sum(result_sequence) >= {SETTLED_MIN} FROM lanes"),
        what="much of it settled",
        seconds=200,
    )
    await demand_little_memory(consumer)
    assert await consumer.terminated() == 0
    findings = await audit(
        world.database_url, deduplication=timedelta(days=35), report=lambda *_: None
    )
    assert not findings.listed
