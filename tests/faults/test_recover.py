"""PostgreSQL comes back from an old backup: lanes halt, `funnel recover` rebuilds what is lost."""

import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
import pytest

from audit import recover as recovering
from audit.lost_rows import RecoverRefused
from audit.outputs import Output
from audit.recover import Recovered, recover
from audit.verify import verify as audit
from contract.events import DEFAULT_SOURCE
from tests.conftest import PARTITIONS_TOTAL
from tests.faults import broker
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.oracle import verify
from tests.faults.workload import POISONED, Workload
from tests.faults.world import World


class Backups:
    """Whole copies of a world's database, and the way back to one."""

    def __init__(self, world: World) -> None:
        self.database = urlsplit(world.database_url).path.removeprefix("/")
        url = urlunsplit(urlsplit(world.database_url)._replace(path="/postgres"))
        self._server = World(database_url=url, kafka=world.kafka, topics=world.topics)

    async def make(self) -> None:
        await self._cut_off()
        await self._server.fetch(f"CREATE DATABASE {self.database}_old TEMPLATE {self.database}")
        await self._let_in()

    async def restore(self) -> None:
        await self._cut_off()
        await self._server.fetch(f"DROP DATABASE {self.database} WITH (FORCE)")
        await self._server.fetch(f"CREATE DATABASE {self.database} TEMPLATE {self.database}_old")

    async def drop(self) -> None:
        await self._server.fetch(f"DROP DATABASE IF EXISTS {self.database}_old WITH (FORCE)")

    async def _cut_off(self) -> None:
        """Nobody is connected, nobody can be: only then is a template copied."""
        await self._server.fetch(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"
        await self._server.fetch(gone, self.database)

    async def _let_in(self) -> None:
        await self._server.fetch(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")


@pytest.fixture
async def backups(world: World) -> Any:
    backups = Backups(world)
    yield backups
    await backups.drop()


def output(world: World) -> Output:
    return Output(kafka=world.kafka, topics=world.topics, event_source=DEFAULT_SOURCE)


async def recovered(world: World, *, dry_run: bool = False) -> list[Recovered]:
    reported: list[int] = []
    done = await recover(world.database_url, output(world), dry_run=dry_run, report=reported.append)
    assert (reported[-1] if reported else 0) == sum(lane.results for lane in done)
    return done


async def halted(world: World, consumer: ConsumerProcess) -> None:
    for lane in range(PARTITIONS_TOTAL):
        assert "funnel recover" in (await consumer.said("lane_halted", lane=lane))["remedy"]


async def goes_on(world: World, workload: Workload) -> None:
    """New commands, and all of the old ones again: duplicates, as if nothing had been lost."""
    await world.commands.read_on()
    await world.send(workload.wild(150))
    await world.settled()
    tally = await verify(world)
    assert {"applied", "merged", "duplicate", "rejected"} <= set(tally.outcomes)
    findings = await audit(
        world.database_url,
        deduplication=timedelta(days=35),
        report=lambda _done, _total: None,
        output=output(world),
    )
    assert not findings.listed


async def test_recover__from_a_backup_that_is_older_than_the_output(
    world: World, fleet: Fleet, backups: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.fetch(POISONED)
    workload = Workload(seed=70, candidates_for_each_lane=5)
    await world.send(workload.creations() + workload.wild(200))
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    await backups.make()
    await world.send(workload.wild(600))
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    lost = await rows(world)
    await backups.restore()
    # Its lanes halt, and go on by themselves once everything is there again.
    consumer = await fleet.start()
    await halted(world, consumer)
    standing = await rows(world)
    wanted = await recovered(world, dry_run=True)
    assert await rows(world) == standing
    # Cut short in the middle, it goes on from there.
    monkeypatch.setattr(recovering, "UNITS_A_TRANSACTION", 50)
    await cut_short(world)
    rest = await recovered(world)
    assert 0 < sum(lane.results for lane in rest) < sum(lane.results for lane in wanted)
    assert await rows(world) == lost
    assert await recovered(world) == []
    await goes_on(world, workload)
    assert await consumer.terminated() == 0


async def rows(world: World) -> list[Any]:
    """The journal, the candidates and the dead letters, whole."""
    return [
        [
            await world.fetch(f"SELECT t::text FROM {table} AS t ORDER BY 1")
            for table in ("journal", "candidates", "dead_letters")
        ],
        await world.fetch(
            "SELECT lane, last_record_offset, last_record_timestamp,"
            " last_record_digest, journal_sequence, result_sequence, change_sequence"
            " FROM lanes ORDER BY lane"
        ),
    ]


class _CutShortError(Exception):
    pass


async def cut_short(world: World) -> None:
    def report(total: int) -> None:
        if total > 100:
            raise _CutShortError

    with pytest.raises(_CutShortError):
        await recover(world.database_url, output(world), dry_run=False, report=report)


async def test_recover__under_a_consumer_that_runs_all_the_while(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    workload = Workload(seed=71, candidates_for_each_lane=5)
    await world.send(workload.creations() + workload.mixed(100))
    consumer = await fleet.start(lease_seconds=5, lane_retry_seconds=2)
    await world.settled()
    await backups.make()
    await world.send(workload.mixed(300))
    await world.settled()
    # Its epochs are still its own in the old rows: only that these went back tells.
    await backups.restore()
    await world.send(workload.mixed(100))
    await halted(world, consumer)
    command = [sys.executable, "-c", "from funnel.cli import main; main()", "recover", "--json"]
    process = await create_subprocess_exec(
        *command,
        stdout=PIPE,
        env=dict(os.environ)
        | {
            "DATABASE_URL": world.database_url,
            "KAFKA_BOOTSTRAP_SERVERS": str(world.kafka["bootstrap_servers"]),
            "FUNNEL_TOPIC_PREFIX": world.topics.prefix,
        },
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    lanes = [orjson.loads(line) for line in told.splitlines()]
    assert [lane["lane"] for lane in lanes] == list(range(PARTITIONS_TOTAL))
    assert all(lane["results"] for lane in lanes)
    await goes_on(world, workload)
    assert len(consumer.actions("lane_taken")) == PARTITIONS_TOTAL
    assert await consumer.terminated() == 0


async def test_recover__whose_commands_have_expired_says_what_is_missing(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    workload = Workload(seed=72, candidates_for_each_lane=3)
    await world.send(workload.creations())
    await backups.make()
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    await backups.restore()
    await fleet.start()
    await world.shared({"one": {4}})  # the rows of the lanes are there
    await broker.expire(world.kafka, world.topics.commands, {1: 2})
    with pytest.raises(RecoverRefused, match=r"lane 1, result 1: commands from offset 0 on"):
        await recovered(world)


async def test_recover__an_erasure_is_accepted_again_and_done_again(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    """The backup has what was erased since: it may not stay there."""
    workload = Workload(seed=73, candidates_for_each_lane=2)
    await world.send(workload.creations())
    consumer = await fleet.start()
    await world.settled()
    assert await consumer.terminated() == 0
    await backups.make()
    await world.send(workload.erasures())
    consumer = await fleet.start()
    total = len(workload.candidates)
    done = f"SELECT count(completed_at) = {total} FROM erasures"
    await world.until(lambda: world.holds(done), what="all erased")
    assert await consumer.terminated() == 0
    await backups.restore()
    assert await world.value("SELECT count(*) FROM candidates") == total
    assert sum(lane.results for lane in await recovered(world)) == 2 * total
    assert await world.value("SELECT count(*) FROM candidates") == 0
    assert await world.value("SELECT min(reason) FROM erasures") == "asked"
    consumer = await fleet.start()
    await world.until(lambda: world.holds(done), what="all erased again")
    assert await consumer.terminated() == 0
    assert await world.value("SELECT count(change) FROM journal") == 0
    findings = await audit(
        world.database_url, deduplication=timedelta(days=35), report=lambda *_: None,
        output=output(world),
    )  # fmt: skip
    assert not findings.listed
