"""Large operations whose owner is killed again and again, with single commands beside them."""

import os
import random
import signal
import sys
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

from producer.outgoing import CommandRecord
from tests.faults.fleet import Fleet
from tests.faults.operations import bulk, control, verify_operations
from tests.faults.oracle import verify
from tests.faults.test_crash_points import BULK_POINTS
from tests.faults.workload import Workload
from tests.faults.world import World

LANE = 0
SEED = int(os.environ.get("SEED") or random.randrange(10**6))
CANDIDATES = int(os.environ.get("FUNNEL_TEST_BULK_CANDIDATES", "3000"))
CHUNK = min(1000, CANDIDATES // 60)
LISTED_MAX = 20_000
"""Ids of one command."""
KILLS = 4
WITHIN_SECONDS = 60 + CANDIDATES / 100
SETTINGS: dict[str, Any] = {"chunk_items": CHUNK, "lease_seconds": 10}
"""A filter over all of them takes longer than the short lease of other tests allows."""


@pytest.mark.timeout(300 + CANDIDATES // 25)
async def test_kill__of_the_owner_of_large_operations(world: World, fleet: Fleet) -> None:
    """At each step of admission and chunk, and at random; paused, resumed, one cancelled.

    One operation has every candidate, others name them with 1 % missing; of both 1 % are stale.
    """
    tell(f"seed {SEED}, {CANDIDATES} candidates, chunks of {CHUNK}")
    chance, numbers = random.Random(SEED), count(1)
    workload = Workload(seed=7, candidates_for_each_lane=1, candidates_of_lane={LANE: CANDIDATES})
    organization_id = workload.candidates_at(LANE)[0][0]
    ids = [key[1] for key in workload.candidates_at(LANE)]
    stale = dict.fromkeys(ids[:: len(ids) // max(1, CANDIDATES // 100)], 99)
    await world.send(workload.creations())
    consumer = await fleet.start(**SETTINGS)
    await world.settled(seconds=WITHIN_SECONDS)
    assert await consumer.terminated() == 0

    listed = []
    for first in range(0, CANDIDATES, LISTED_MAX * 99 // 100):
        part = ids[first : first + LISTED_MAX * 99 // 100]
        missing = [str(uuid4()) for _ in range(len(part) // 99)]
        command, operation_id = bulk(
            organization_id,
            {"rating": 4, "tags": {"add": ["moved"]}},
            f"listed-{first}",
            candidate_ids=[*part, *missing],
            expected_versions={each: 99 for each in part if each in stale},
        )
        listed.append((command, operation_id, part, len(missing)))
    everybody: dict[str, Any] = {"filter": {"status": "new"}, "expected_versions": stale}
    chosen = bulk(organization_id, {"pipeline_stage": "moved"}, "chosen", **everybody)
    small = bulk(organization_id, {"source": "fair"}, "small", candidate_ids=ids[-100:])
    doomed = bulk(organization_id, {"source": "x"}, "doomed", **everybody)

    def steer(operation_id: str, action: str) -> CommandRecord:
        return control(organization_id, operation_id, action, f"steer-{next(numbers)}")

    # Each round: a command or two, some singles on the same candidates, then a kill.
    rounds = [
        [command for command, *_ in listed],
        [chosen[0], steer(chosen[1], "pause")],
        [small[0]],
        [steer(chosen[1], "resume")],
        [doomed[0], steer(doomed[1], "pause"), steer(doomed[1], "cancel")],
        [],
    ]
    for point, commands in zip(BULK_POINTS, rounds, strict=True):
        await world.send([*commands, *workload.lane_updates(LANE, 20)])
        times = 1 if point == "after_write_operations" else chance.randint(1, 4)
        killed = await fleet.start(crash_at=f"{point}:{times}", batch_records_max=10, **SETTINGS)
        assert await killed.ended(seconds=WITHIN_SECONDS) == -signal.SIGKILL
        tell(f"killed at {point}:{times}, {await pending(world)} items pending")
    for left in sorted((chance.random() for _ in range(KILLS)), reverse=True):
        at_most = int(await pending(world) * left)
        action = chance.choice(["pause", "resume"])
        await world.send([steer(chosen[1], action), *workload.lane_updates(LANE, 50)])
        await world.send([steer(chosen[1], "resume"), *workload.lane_updates(LANE, 50)])
        killed = await fleet.start(**SETTINGS)
        await world.until(
            partial(world.holds, f"SELECT sum(pending) <= {at_most} FROM bulk_operations"),
            what=f"{at_most} items left",
            seconds=WITHIN_SECONDS,
        )
        await killed.killed()
        tell(f"killed at random, {await pending(world)} items pending")
    await world.send(workload.lane_updates(LANE, 50))
    consumer = await fleet.start(**SETTINGS)
    await world.settled(seconds=WITHIN_SECONDS)
    assert await consumer.terminated() == 0

    tally = await verify(world)
    found = await verify_operations(world)
    tell(f"{sum(tally.kinds.values())} journal rows agree with everything: {dict(tally.kinds)}")
    for _, operation_id, part, missing_total in listed:
        row = found[operation_id]
        conflicts = sum(each in stale for each in part)
        assert (row["total"], row["not_found"]) == (len(part) + missing_total, missing_total)
        assert (row["conflict"], row["applied"]) == (conflicts, len(part) - conflicts)
    row = found[chosen[1]]
    assert (row["total"], row["conflict"]) == (CANDIDATES, len(stale))
    assert row["applied"] == CANDIDATES - len(stale)
    assert found[small[1]]["applied"] == 100
    row = found[doomed[1]]
    assert (row["status"], row["total"]) == ("cancelled", CANDIDATES)
    assert row["applied"] + row["cancelled"] + row["unchanged"] + row["conflict"] == CANDIDATES
    for operation_id, row in found.items():
        tell(f"{operation_id} {row['status']}: {row['total']} items, {row['applied']} applied")


async def pending(world: World) -> int:
    return int(await world.value("SELECT sum(pending) FROM bulk_operations") or 0)


def tell(line: str) -> None:
    """Shown if it fails, or with `-s`; the same SEED draws the same again."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
