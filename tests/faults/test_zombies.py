"""An owner that stalls past its lease and wakes up beside its successor can do no harm.

It is stopped by SIGSTOP at a named step, a peer takes its lanes, it goes on by SIGCONT.
"""

from urllib.parse import urlsplit

import pytest

from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.link import link_to
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World

# In the middle of a PostgreSQL transaction, right behind one, and around a Kafka transaction.
PAUSE_POINTS = ("after_write_journal:6", "before_commit:6", "before_publish:6", "after_sends:6")


async def takeover(fleet: Fleet) -> ConsumerProcess:
    """A peer that owns every lane, though their former owner is still there."""
    peer = await fleet.start("peer")
    for lane in range(PARTITIONS_TOTAL):
        await peer.said("lane_taken", lane=lane)
    return peer


async def outlived(
    world: World, workload: Workload, zombie: ConsumerProcess, peer: ConsumerProcess
) -> None:
    """The zombie stops each lane and says so; the peer is never disturbed; nothing is wrong."""
    for lane in range(PARTITIONS_TOTAL):
        await zombie.said("lane_lost", lane=lane, owner_epoch=1)
    # Alive again it is a peer like any other, though no command told it that it was overruled.
    await world.shared({zombie.consumer_id: {2}, peer.consumer_id: {2}})
    await world.send(workload.mixed(200))
    await world.settled()
    assert not peer.actions("lane_lost")
    assert not peer.actions("publisher_paused"), "the zombie fenced its successor"
    assert await zombie.terminated() == 0
    assert await peer.terminated() == 0
    await verify(world)


@pytest.mark.parametrize("point", PAUSE_POINTS)
async def test_zombie__wakes_up_after_its_lanes_went_on(
    world: World, fleet: Fleet, point: str
) -> None:
    workload = Workload(seed=2, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(600))
    zombie = await fleet.start("zombie", pause_at=point, batch_records_max=40)
    await zombie.paused()
    peer = await takeover(fleet)
    await world.send(workload.mixed(200))
    await world.settled()
    zombie.resume()
    await outlived(world, workload, zombie, peer)


async def test_transaction__that_the_broker_has_aborted_is_published_again(
    world: World, fleet: Fleet
) -> None:
    """Its owner slept through the transaction's time-out, and nobody took its lanes."""
    workload = Workload(seed=8, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(400))
    sleeper = await fleet.start(
        "sleeper", pause_at="after_sends:6", batch_records_max=40, lease_seconds=60
    )
    await sleeper.paused()
    assert await world.results.held()

    async def aborted() -> bool:
        return not await world.results.held()

    await world.until(aborted, what="aborted by the broker")
    sleeper.resume()
    await sleeper.said("publisher_paused")
    await world.settled()
    assert await sleeper.terminated() == 0
    await verify(world)


@pytest.mark.parametrize("records_meanwhile", [False, True])
async def test_zombie__wakes_up_between_batches(
    world: World, fleet: Fleet, records_meanwhile: bool
) -> None:
    workload = Workload(seed=3, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(200))
    zombie = await fleet.start("zombie")
    await world.settled()
    zombie.pause()
    await zombie.paused()
    peer = await takeover(fleet)
    if records_meanwhile:
        await world.send(workload.mixed(200))
        await world.settled()
    zombie.resume()
    await outlived(world, workload, zombie, peer)


async def test_zombie__that_fences_its_successor_gives_way(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=5, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(200))
    # It has just seen that the lane is its own: the one moment at which it may do harm.
    zombie = await fleet.start("zombie", pause_at="before_fence")
    await zombie.paused()
    peer = await takeover(fleet)
    await world.settled()
    zombie.resume()
    for lane in range(PARTITIONS_TOTAL):
        await zombie.said("lane_lost", lane=lane, owner_epoch=1)
    await world.send(workload.mixed(200))
    await world.settled()
    assert not peer.actions("lane_lost")
    assert await zombie.terminated() == 0
    assert await peer.terminated() == 0
    await verify(world)


async def test_zombie__wakes_up_while_its_successor_takes_over(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=4, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(600))
    zombie = await fleet.start("zombie", pause_at="after_sends:6", batch_records_max=40)
    await zombie.paused()
    # All epochs are taken and all lanes fenced, nothing of the backlog is published yet.
    peer = await fleet.start("peer", pause_at="after_fence:4")
    await peer.paused()
    zombie.resume()
    for lane in range(PARTITIONS_TOTAL):
        await zombie.said("lane_lost", lane=lane, owner_epoch=1)
    peer.resume()
    await world.settled()
    assert await zombie.terminated() == 0
    assert await peer.terminated() == 0
    await verify(world)


async def test_zombie__that_cannot_ask_whose_its_lanes_are(world: World, fleet: Fleet) -> None:
    """Cut off from PostgreSQL it goes on publishing from memory: only the fence can stop it."""
    workload = Workload(seed=7, candidates_for_each_lane=6)
    await world.send(workload.creations() + workload.mixed(600))
    postgres = urlsplit(world.database_url)
    async with link_to(str(postgres.hostname), postgres.port or 0) as link:
        zombie = await fleet.start(
            "zombie",
            pause_at="before_publish:6",
            batch_records_max=40,
            database_url=link.url(world.database_url),
        )
        await zombie.paused()
        link.cut()
        peer = await takeover(fleet)
        await world.settled()
        zombie.resume()
        await zombie.said("publisher_paused")
        await zombie.said("membership_paused")
        # Whatever it does to get its producer back, the peer is not to notice.
        await world.send(workload.mixed(200))
        await world.settled()
        link.heal()
        await outlived(world, workload, zombie, peer)
