"""Clocks that jump. Only the database's counts: it stamps batches, and it ends leases.

No test can set the clock of a server that others use, so what a jump leaves behind is written into
the rows that remember an instant: to a lane it is the same whether the clock went back or its last
batch was later, and to a lease whether the clock went on or it was shorter.
"""

from domain.limits import JOURNAL_AHEAD_DAYS
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World


async def test_clock__of_the_database_goes_back(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=90, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    await world.fetch(
        "UPDATE journal SET recorded_at = recorded_at + interval '1 day' WHERE lane < 2"
    )
    await world.fetch("UPDATE lanes SET last_recorded_at = last_recorded_at + interval '1 day'")
    latest = await world.value("SELECT max(last_recorded_at) FROM lanes")
    await world.send(workload.mixed(200))
    await world.settled()
    # No instant is before the one of the lane's last batch.
    lanes = await world.fetch(
        "SELECT lane, min(recorded_at) AS first FROM journal WHERE journal_sequence >"
        " (SELECT count(*) / 4 FROM candidates) GROUP BY lane"
    )
    assert len(lanes) == 4
    assert all((latest - lane["first"]).total_seconds() < 60 for lane in lanes)
    assert await consumer.terminated() == 0
    far = JOURNAL_AHEAD_DAYS + 60
    await world.fetch(f"UPDATE lanes SET last_recorded_at = now() + interval '{far} days'")
    await world.send(workload.lane_updates(0, 10))
    # So far back that no journal partition is made for the lane's time: it waits, and says so.
    consumer = await fleet.start()
    paused = await consumer.said("lane_paused", lane=0)
    assert "clock is far behind" in paused["cause"]
    await world.fetch("UPDATE lanes SET last_recorded_at = $1", latest)
    await consumer.said("lane_resumed", lane=0)
    await world.settled()
    assert await consumer.terminated() == 0


async def test_clock__of_the_database_goes_on_and_ends_every_lease(
    world: World, fleet: Fleet
) -> None:
    workload = Workload(seed=91, candidates_for_each_lane=4)
    await world.send(workload.creations())
    one = await fleet.start("one", lease_seconds=20)
    two = await fleet.start("two", lease_seconds=20)
    await world.shared({"one": {2}, "two": {2}})
    await world.send(workload.mixed(300))
    for _ in range(5):
        await world.fetch("UPDATE consumers SET lease_until = now() - interval '1 hour'")
    await world.settled()
    # Whoever noticed first took over; the epoch told the other, and both are peers again.
    await world.shared({"one": {2}, "two": {2}})
    for consumer in (one, two):
        assert await consumer.terminated() == 0
    await verify(world)
