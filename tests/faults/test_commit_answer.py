"""A COMMIT without an answer: it happened or it did not, and the lane finds out which."""

import pytest

from migrations import runner
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.proxy import CommitProxy, Loss
from tests.faults.workload import Workload
from tests.faults.world import World

COMMITS_LOST_MIN = 3


@pytest.mark.parametrize(
    ("loss", "silent"), [("request", False), ("answer", False), ("answer", True)]
)
async def test_commit__is_lost_on_its_way(
    world: World, fleet: Fleet, loss: Loss, silent: bool
) -> None:
    workload = Workload(seed=40, candidates_for_each_lane=4)
    await world.send(workload.creations() + workload.mixed(500))
    # Each silence lasts for as long as the lane waits for an answer.
    every = 14 if silent else 4
    proxy = CommitProxy(world.database_url, loss=loss, every=every, silent=silent)
    async with proxy.running() as database_url:
        consumer = await fleet.start(database_url=database_url, batch_records_max=10)
        await world.settled()
        assert proxy.lost >= COMMITS_LOST_MIN
        assert consumer.actions("lane_paused")
        assert consumer.actions("lane_resumed")
        assert await consumer.terminated() == 0
    await verify(world)


@pytest.mark.parametrize(
    ("loss", "silent"), [("request", False), ("answer", False), ("answer", True)]
)
async def test_commit__of_a_migration_is_lost_on_its_way(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, loss: Loss, silent: bool
) -> None:
    monkeypatch.setattr(runner, "COMMIT_S_MAX", 1.0)
    proxy = CommitProxy(empty_database_url, loss=loss, every=4, silent=silent, behind=b"")
    told: list[str] = []
    async with proxy.running() as database_url:
        applied = await runner.migrate_up(database_url, report=told.append)
    assert proxy.lost
    assert sum("trying again" in line for line in told) == proxy.lost
    # Each once: a second time would have been refused, by its tables and by its version.
    expected = [migration.version for migration in await runner.status(empty_database_url)]
    assert all(each.applied for each in await runner.status(empty_database_url))
    assert await runner.migrate_up(empty_database_url, report=told.append) == []
    lost = proxy.lost if loss == "answer" else 0
    assert len(applied) == len(set(applied)) == len(expected) - lost
