"""PostgreSQL refuses: a candidate, a journal row, a moment. Each ends as DESIGN.md 4 says."""

from contextlib import suppress

import asyncpg

from tests.conftest import PARTITIONS_TOTAL
from tests.faults.fleet import Fleet
from tests.faults.oracle import verify
from tests.faults.workload import POISONED, Workload
from tests.faults.world import World

PASSING = ("40001", "40P01", "55P03", "53100", "53200", "53300", "25006", "57P01", "57014")
"""Serialization, deadlock, lock time-out, disk full, no memory, no connection, read-only,
shutting down, cancelled: a statement that is refused so may be taken the next time."""


async def test_poison__is_found_by_halving_and_the_rest_is_applied_once(
    world: World, fleet: Fleet
) -> None:
    await world.fetch(POISONED)
    workload = Workload(seed=80, candidates_for_each_lane=4)
    poisoned = [workload.poison(candidate) for candidate in workload.candidates[::5]]
    commands = workload.updates(400)
    for index, poison in enumerate(poisoned):
        commands.insert(37 * (index + 1), poison)
    await world.send(workload.creations() + commands)
    consumer = await fleet.start(batch_records_max=500)
    await world.settled()
    tally = await verify(world)
    assert tally.kinds == {"command": world.sent - len(poisoned), "dead_letter": len(poisoned)}
    assert set(tally.outcomes) == {"applied"}
    codes = await world.fetch("SELECT DISTINCT error_code FROM dead_letters")
    assert [row["error_code"] for row in codes] == ["apply_failed"]
    # The halves stay small only until the poison is out: the next batch is whole again, seen by
    # the one instant that all of a transaction has.
    consumer.pause()
    await consumer.paused()
    await world.send(workload.lane_updates(0, 200))
    consumer.resume()
    await world.settled()
    instants = "SELECT count(*) FROM journal WHERE lane = 0 GROUP BY recorded_at ORDER BY 1 DESC"
    assert await world.value(instants) >= 150
    assert not consumer.actions("lane_paused")
    assert await consumer.terminated() == 0


async def test_refusals__that_pass_are_tried_again(world: World, fleet: Fleet) -> None:
    """The first statements on candidates fail, each by another SQLSTATE, then all succeed."""
    workload = Workload(seed=81, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start(batch_records_max=50)
    await world.settled()
    codes = ", ".join(f"'{code}'" for code in PASSING)
    await world.fetch("CREATE SEQUENCE refusals")
    await world.fetch("GRANT USAGE ON SEQUENCE refusals TO funnel_consumer")
    await world.fetch(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            code text := (ARRAY[{codes}])[nextval('refusals')];
        BEGIN
            IF code IS NOT NULL THEN
                RAISE EXCEPTION 'refused by the test' USING ERRCODE = code;
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    await world.fetch(
        "CREATE TRIGGER refuse BEFORE UPDATE ON candidates FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse()"
    )
    await world.send(workload.mixed(400))
    await world.settled()
    assert await world.value("SELECT last_value FROM refusals") > len(PASSING)
    assert await consumer.terminated() == 0
    await verify(world)


async def test_journal__that_refuses_a_row_halts_that_lane(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=82, candidates_for_each_lane=4)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    await world.fetch("ALTER TABLE journal ADD CONSTRAINT no_more CHECK (lane <> 0) NOT VALID")
    for lane in range(PARTITIONS_TOTAL):
        await world.send(workload.lane_updates(lane, 20))
    halted = await consumer.said("lane_halted", lane=0)
    assert "CheckViolationError" in halted["cause"]
    assert halted["remedy"]
    await world.settled(lanes=(1, 2, 3))
    assert not await world.value("SELECT count(*) FROM dead_letters")
    await world.fetch("ALTER TABLE journal DROP CONSTRAINT no_more")
    await world.settled()
    assert await consumer.terminated() == 0
    await verify(world)


async def test_guard__does_not_hold_where_somebody_else_wrote(world: World, fleet: Fleet) -> None:
    workload = Workload(seed=83, candidates_for_each_lane=1)
    await world.send(workload.creations())
    first = await fleet.start("first")
    await world.settled()
    assert await first.terminated() == 0
    organization_id, candidate_id = workload.candidates[0]
    key = f"WHERE organization_id = '{organization_id}' AND candidate_id = '{candidate_id}'"
    lane = await world.value(f"SELECT lane FROM journal {key}")
    await world.send(workload.lane_updates(lane, 1))
    # It has read version 1 and decided on 2; meanwhile an operator repairs the row by hand.
    consumer = await fleet.start(pause_at="after_decide")
    await consumer.paused()
    await world.fetch(f"UPDATE candidates SET version = 2, rating = 5 {key}")
    consumer.resume()
    await world.settled()
    row = await world.fetch(f"SELECT version, rating FROM candidates {key}")
    assert tuple(row[0]) == (3, 5)
    assert await world.value(f"SELECT version FROM journal {key} AND version > 1") == 3
    assert await consumer.terminated() == 0


async def test_deadlock__with_another_client_costs_one_of_them_a_try(
    world: World, fleet: Fleet
) -> None:
    workload = Workload(seed=84, candidates_for_each_lane=2)
    await world.send(workload.creations())
    consumer = await fleet.start(lease_seconds=10)
    await world.settled()
    other = await asyncpg.connect(world.database_url)
    try:
        held = other.transaction()
        await held.start()
        await other.execute("SELECT FROM candidates FOR UPDATE")
        await world.send(workload.lane_updates(0, 10))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await world.until(lambda: world.holds(waiting), what="the lane waits for us")
        # Now each waits for the other; PostgreSQL sends either away after a second.
        with suppress(asyncpg.DeadlockDetectedError):
            await other.execute("SELECT FROM lanes WHERE lane = 0 FOR UPDATE")
        await held.rollback()
    finally:
        await other.close()
    await world.settled()
    assert await consumer.terminated() == 0
    await verify(world)
