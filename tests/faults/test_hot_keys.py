"""Two consumers on hot candidates, killed again and again: nothing is lost, nothing doubled."""

import random

from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.oracle import verify
from tests.faults.workload import Workload
from tests.faults.world import World

COMMANDS_TOTAL = 20_000
KILLS_TOTAL = 8


async def test_hot_keys__under_repeated_kills(world: World, fleet: Fleet) -> None:
    chance = random.Random(20)
    workload = Workload(seed=20, candidates_for_each_lane=2)
    await world.send(workload.creations() + workload.updates(COMMANDS_TOTAL))
    consumers: dict[str, ConsumerProcess] = {}
    for name in ("one", "two"):
        consumers[name] = await fleet.start(name, batch_records_max=100)
    for kill in range(1, KILLS_TOTAL + 1):
        # Spread over the load, so that each kill finds work in hand.
        await world.decided(COMMANDS_TOTAL * kill // (KILLS_TOTAL + 2))
        name = chance.choice(list(consumers))
        await consumers[name].killed()
        consumers[name] = await fleet.start(name, batch_records_max=100)
    await world.settled(seconds=60)
    for consumer in consumers.values():
        assert await consumer.terminated() == 0
    tally = await verify(world)
    assert tally.kinds == {"command": COMMANDS_TOTAL + len(workload.candidates)}
    assert set(tally.outcomes) == {"applied"}
    assert sum(tally.versions.values()) == COMMANDS_TOTAL + len(workload.candidates)
