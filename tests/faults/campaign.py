"""The fault campaign: random commands x random faults x two consumers, the oracle after each round,
the audit tools at the end of each world.

`make faults` runs it for MINUTES. Everything that is drawn comes from SEED, so a round that fails
is played again by its seed (the timing is the machine's). The servers are its own, and die with it.
"""

import asyncio
import logging
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiokafka.errors import KafkaError

from contract.topics import Topics
from migrations.runner import migrate_up
from producer.admin import apply_topics, delete_topics
from stack.embedded import EmbeddedStack
from stack.servers import Servers
from tests.conftest import PARTITIONS_TOTAL, OwnStack, url_of
from tests.faults.fleet import Fleet
from tests.faults.looking_back import look_back
from tests.faults.operations import verify_operations
from tests.faults.oracle import Tally, verify
from tests.faults.site import Fault, Site, draw
from tests.faults.workload import POISONED, Workload
from tests.faults.world import World

ROUNDS_A_WORLD = 8
"""The oracle reads all of a world after each round: fresh topics and tables before it gets slow."""
COMMANDS_MIN, COMMANDS_MAX = 150, 700
FAULTS_MAX = 3
BULKS_MAX = 4
HEALED_WITHIN = 45.0
"""Ten seconds and a lease by promise; the rest is for a machine that others use too."""
SHARED_WITHIN = 20.0


class Round(NamedTuple):
    """What happened in one round."""

    number: int
    faults: list[Fault]
    commands_total: int
    healed_in: float
    seconds: float
    tally: Tally

    def __str__(self) -> str:
        faults = ", ".join(map(str, self.faults))
        outcomes = ", ".join(f"{count} {name}" for name, count in self.tally.outcomes.items())
        return (
            f"round {self.number}: {faults} | {self.commands_total} commands, healed in"
            f" {self.healed_in:.1f} s, {self.seconds:.1f} s | so far {outcomes}"
        )


class RoundFailed(Exception):
    """A promise was broken; the message says where, and how to see it again."""


async def campaign(
    stack: OwnStack, *, seed: int, rounds_max: int, seconds_max: float
) -> AsyncIterator[Round]:
    """Rounds until either bound is reached, world after world.

    Raises:
        RoundFailed: the oracle, or a consumer that ended as none may.
    """
    servers = await asyncio.to_thread(stack.start)
    ends_at = time.monotonic() + seconds_max
    number = 0
    while number < rounds_max and time.monotonic() < ends_at:
        chance = random.Random(f"{seed} {number}")
        async with _site(stack, servers, f"seed {seed}, after round {number}") as site:
            workload = Workload(seed=chance.randrange(10**9), candidates_for_each_lane=8)
            await site.world.send(workload.creations())
            for _ in range(ROUNDS_A_WORLD):
                number += 1
                faults = draw(chance, chance.randint(1, FAULTS_MAX))
                try:
                    yield await _round(site, workload, chance, number, faults)
                except (AssertionError, TimeoutError, KafkaError, OSError) as error:
                    told = ", ".join(map(str, faults))
                    await site.fleet.tell()
                    raise RoundFailed(
                        f"seed {seed}, round {number}: {told}\n{site.fleet.story()}\n{error!r}"
                    ) from error
                if number >= rounds_max or time.monotonic() > ends_at:
                    break
            with tempfile.TemporaryDirectory(prefix="funnel-") as folder:
                try:
                    await look_back(site.world, Path(folder))
                except AssertionError as error:
                    raise RoundFailed(
                        f"seed {seed}, looking back after round {number}: {error!r}"
                    ) from error


async def _round(
    site: Site, workload: Workload, chance: random.Random, number: int, faults: list[Fault]
) -> Round:
    started = time.monotonic()
    total = chance.randint(COMMANDS_MIN, COMMANDS_MAX)
    commands = workload.wild(total)
    for _ in range(chance.randint(0, BULKS_MAX)):
        place = chance.randint(0, len(commands))
        commands[place:place] = workload.bulks()
    middle = chance.randint(0, len(commands))
    sending = asyncio.create_task(site.world.send(commands[:middle], request_timeout_ms=60_000))
    await site.suffer(faults)
    await sending
    await site.world.send(commands[middle:])
    healed_at = time.monotonic()
    await site.world.settled(seconds=HEALED_WITHIN)
    healed_in = time.monotonic() - healed_at
    await site.world.shared({"one": {2}, "two": {2}}, seconds=SHARED_WITHIN)
    assert not await site.world.value("SELECT count(*) FROM lanes WHERE halted IS NOT NULL")
    tally = await verify(site.world)
    await verify_operations(site.world)
    return Round(number, faults, total, healed_in, time.monotonic() - started, tally)


@asynccontextmanager
async def _site(stack: OwnStack, servers: Servers, where: str) -> AsyncIterator[Site]:
    """Fresh tables and topics, the ways to both servers, and two consumers."""
    kafka: dict[str, object] = {"bootstrap_servers": servers.kafka_bootstrap_servers}
    topics = Topics(prefix=f"t{uuid.uuid4().hex[:12]}.")
    database_url = url_of(servers, f"test_{uuid.uuid4().hex[:12]}")
    await migrate_up(database_url, report=lambda _line: None)
    await apply_topics(kafka, topics, partitions_total=PARTITIONS_TOTAL)
    world = World(database_url=database_url, kafka=kafka, topics=topics)
    await world.start()
    fleet = Fleet(database_url=database_url, kafka=kafka, topics=topics)
    site = Site(stack=stack, world=world, fleet=fleet)
    try:
        await world.fetch(POISONED)
        await site.start()
        yield site
        try:
            await site.leave()
        except AssertionError as error:
            raise RoundFailed(f"{where}, at the end of its world: {error}") from error
    finally:
        await site.stop()
        await world.stop()
    await delete_topics(kafka, topics)


async def _main(*, seed: int, rounds_max: int, seconds_max: float) -> int:
    with tempfile.TemporaryDirectory(prefix="funnel-") as folder:
        stack = EmbeddedStack(Path(folder), durable=False)
        kinds: Counter[str] = Counter()
        slowest, last = 0.0, 0
        _tell(f"seed {seed}")
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # the oracle's own clients
        try:
            rounds = campaign(stack, seed=seed, rounds_max=rounds_max, seconds_max=seconds_max)
            async for each in rounds:
                kinds.update(fault.kind for fault in each.faults)
                slowest, last = max(slowest, each.healed_in), each.number
                _tell(str(each))
        except RoundFailed as failed:
            _tell(str(failed))
            _tell(f"FAILED after {last} clean rounds; again: make faults SEED={seed}")
            return 1
        finally:
            await asyncio.to_thread(stack.stop)
    faults = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    _tell(f"seed {seed}: {last} rounds clean, healed in {slowest:.1f} s at most; {faults}")
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(
        asyncio.run(
            _main(
                seed=int(os.environ.get("SEED") or random.randrange(10**6)),
                rounds_max=int(os.environ.get("ROUNDS") or 10**9),
                seconds_max=float(os.environ.get("MINUTES") or 5) * 60,
            )
        )
    )
