"""A large operation whose owner is killed again and again, with single commands beside it."""

import os
import signal
from itertools import count
from uuid import uuid4

import pytest

from tests.faults.fleet import Fleet
from tests.faults.operations import bulk, control, verify_operations
from tests.faults.oracle import verify
from tests.faults.test_crash_points import BULK_POINTS
from tests.faults.workload import Workload
from tests.faults.world import World

LANE = 0
CANDIDATES = int(os.environ.get("FUNNEL_TEST_BULK_CANDIDATES", "3000"))
CHUNK = max(50, CANDIDATES // 60)


@pytest.mark.timeout(120 + CANDIDATES // 50)
async def test_kill__of_the_owner_of_a_large_operation(world: World, fleet: Fleet) -> None:
    """At each step of admission and chunk, and at random; paused, resumed, one cancelled."""
    numbers = count(1)
    workload = Workload(seed=7, candidates_for_each_lane=1, candidates_of_lane={LANE: CANDIDATES})
    [organization_id, *_] = [key[0] for key in workload.candidates_at(LANE)]
    ids = [key[1] for key in workload.candidates_at(LANE)]
    missing, stale = max(1, CANDIDATES // 100), max(1, CANDIDATES // 100)
    await world.send(workload.creations())
    consumer = await fleet.start(chunk_items=CHUNK)
    await world.settled(seconds=60 + CANDIDATES / 500)
    assert await consumer.terminated() == 0

    strangers = [str(uuid4()) for _ in range(missing)]
    listed = bulk(
        organization_id,
        {"rating": 4, "tags": {"add": ["moved"]}},
        "listed",
        candidate_ids=[*ids[:2000], *strangers],
        expected_versions=dict.fromkeys(ids[:stale], 99),
    )
    chosen = bulk(organization_id, {"pipeline_stage": "moved"}, "chosen", filter={"status": "new"})
    small = bulk(organization_id, {"source": "fair"}, "small", candidate_ids=ids[-100:])
    doomed = bulk(organization_id, {"source": "x"}, "doomed", filter={"status": "new"})
    operations = [listed, chosen, small, doomed]

    def steer(operation: int, action: str) -> object:
        name = f"steer-{next(numbers)}"
        return control(organization_id, operations[operation][1], action, name)

    # Each round: a command or two, some singles on the same candidates, then a kill.
    rounds = [
        [listed[0]],
        [chosen[0], steer(1, "pause")],
        [small[0]],
        [steer(1, "resume")],
        [doomed[0], steer(3, "pause"), steer(3, "cancel")],
        [],
    ]
    for point, commands in zip(BULK_POINTS, rounds, strict=True):
        await world.send([*commands, *workload.lane_updates(LANE, 20)])
        times = 1 if point == "after_write_operations" else 2
        killed = await fleet.start(
            crash_at=f"{point}:{times}", batch_records_max=10, chunk_items=CHUNK
        )
        assert await killed.ended() == -signal.SIGKILL
    await world.send(workload.lane_updates(LANE, 50))
    at_random = await fleet.start(chunk_items=CHUNK)
    await world.until(
        lambda: world.holds("SELECT sum(pending) < sum(total) / 2 FROM bulk_operations"),
        what="half of it done",
        seconds=60 + CANDIDATES / 100,
    )
    await at_random.killed()
    await world.send(workload.lane_updates(LANE, 50))
    consumer = await fleet.start(chunk_items=CHUNK)
    await world.settled(seconds=60 + CANDIDATES / 100)
    assert await consumer.terminated() == 0

    await verify(world)
    found = await verify_operations(world)
    row = found[listed[1]]
    listed_total = min(CANDIDATES, 2000)
    assert (row["total"], row["not_found"]) == (listed_total + missing, missing)
    assert (row["conflict"], row["applied"]) == (stale, listed_total - stale)
    assert found[chosen[1]]["applied"] == found[chosen[1]]["total"] == CANDIDATES
    assert found[small[1]]["applied"] == 100
    doomed_row = found[doomed[1]]
    assert doomed_row["status"] == "cancelled"
    assert doomed_row["applied"] + doomed_row["cancelled"] + doomed_row["unchanged"] == CANDIDATES
