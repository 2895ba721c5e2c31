"""PostgreSQL comes back from an old backup: lanes halt, `funnel recover` rebuilds what is lost."""

import os
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import orjson
import pytest

from audit import recover as recovering
from audit.keys import Key
from audit.lost_rows import RecoverRefused
from audit.outputs import Output
from audit.recover import Recovered, recover
from audit.repair import open_repairer
from audit.verify import verify as audit
from contract.events import DEFAULT_SOURCE
from funnel.consume import ConsumeConfig
from funnel.recovering import ConsumerSettler
from tests.conftest import PARTITIONS_TOTAL
from tests.faults import broker
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.operations import bulk, control, verify_operations
from tests.faults.oracle import verify
from tests.faults.workload import POISON, POISONED, Workload
from tests.faults.world import World

LANE = 0


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


def settler(world: World, **settings: Any) -> ConsumerSettler:
    return ConsumerSettler(
        ConsumeConfig(
            database_url=world.database_url,
            kafka=world.kafka,
            topics=world.topics,
            consumer_id="recover",
            event_source=DEFAULT_SOURCE,
            **settings,
        )
    )


async def recovered(world: World, *, dry_run: bool = False, **settings: Any) -> list[Recovered]:
    reported: list[int] = []
    done = await recover(
        world.database_url, output(world), settler(world, **settings), dry_run=dry_run,
        report=reported.append,
    )  # fmt: skip
    assert (reported[-1] if reported else 0) == sum(lane.results for lane in done)
    return done


async def halted(world: World, consumer: ConsumerProcess) -> None:
    for lane in range(PARTITIONS_TOTAL):
        assert "funnel recover" in (await consumer.said("lane_halted", lane=lane))["remedy"]


async def goes_on(world: World, fleet: Fleet, workload: Workload) -> None:
    """New commands, and some of the old ones again: duplicates, as if nothing had been lost."""
    if not any(consumer.running for consumer in fleet.consumers):
        await fleet.start()
    await world.commands.read_on()
    await world.send(workload.wild(150))
    await world.settled(seconds=120)
    tally = await verify(world)
    assert {"applied", "merged", "duplicate", "rejected"} <= set(tally.outcomes)
    await demand_audited(world)


async def demand_audited(world: World) -> None:
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
    demand_same(await rows(world), standing)
    # Cut short in the middle, it goes on from there.
    monkeypatch.setattr(recovering, "UNITS_A_TRANSACTION", 50)
    await cut_short(world)
    rest = await recovered(world)
    assert 0 < sum(lane.results for lane in rest) < sum(lane.results for lane in wanted)
    demand_same(await rows(world), lost)
    assert await recovered(world) == []
    await goes_on(world, fleet, workload)
    assert await consumer.terminated() == 0


TABLES = (
    "candidates", "candidate_names", "dead_letters", "bulk_operations",
    "bulk_operation_items",
)  # fmt: skip
OTHERS = {
    # A chunk notes where the lane stood: behind the markers of Kafka's transactions, perhaps.
    "journal": "SELECT CASE WHEN kind IN ('command', 'reroute', 'dead_letter') THEN to_jsonb(j)"
    " ELSE to_jsonb(j) - 'source_offset' END FROM journal AS j",
    "lanes": "SELECT lane, last_record_offset, last_record_timestamp, last_record_digest,"
    " journal_sequence, result_sequence, change_sequence FROM lanes",
    # However they are divided into chunks.
    "bulk_operation_chunks": "SELECT c.operation_id, c.first_ordinal + i.n, i.candidate_id,"
    " i.expected_version FROM bulk_operation_chunks AS c"
    " CROSS JOIN LATERAL unnest(c.candidate_ids, c.expected_versions)"
    " WITH ORDINALITY AS i (candidate_id, expected_version, n)",
}


async def rows(world: World) -> dict[str, list[str]]:
    """All that a recovery may write, whole."""
    queries = {table: f"SELECT * FROM {table}" for table in TABLES} | OTHERS
    return {
        table: [
            row[0] for row in await world.fetch(f"SELECT t::text FROM ({query}) AS t ORDER BY 1")
        ]
        for table, query in queries.items()
    }


def demand_same(found: dict[str, list[str]], wanted: dict[str, list[str]]) -> None:
    """With those that differ, should any."""
    for table, rows_wanted in wanted.items():
        extra = sorted({*found[table]} - {*rows_wanted})[:3]
        missing = sorted({*rows_wanted} - {*found[table]})[:3]
        assert (table, extra, missing) == (table, [], [])
        assert len(found[table]) == len(rows_wanted), table


class _CutShortError(Exception):
    pass


async def cut_short(world: World) -> None:
    def report(total: int) -> None:
        if total > 100:
            raise _CutShortError

    with pytest.raises(_CutShortError):
        await recover(
            world.database_url, output(world), settler(world), dry_run=False, report=report
        )


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
    await goes_on(world, fleet, workload)
    assert len(consumer.actions("lane_taken")) == PARTITIONS_TOTAL
    assert await consumer.terminated() == 0


FIRST = "2000-01-01T00:00:00Z"


@pytest.mark.timeout(400)
async def test_recover__of_bulk_operations_which_go_on_where_they_stood(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    """Every kind of them, each outcome of an item, one half done and paused."""
    await world.fetch(POISONED)
    workload = Workload(seed=74, candidates_for_each_lane=2, candidates_of_lane={LANE: 120})
    organization_id = workload.candidates_at(LANE)[0][0]
    ids = [key[1] for key in workload.candidates_at(LANE)]
    settings: dict[str, Any] = {"chunk_items": 200}
    short: dict[str, Any] = {"chunk_items": 5}
    await settled(world, fleet, workload.creations() + workload.lane_updates(LANE, 100), settings)
    early, early_id = bulk(
        organization_id, {"rating": 1}, "early", filter={"status": "new"}, expected_versions={}
    )
    # Begun before the backup, gone on with after it.
    await world.send([early])
    await (await fleet.start(crash_at="after_chunk_operation:5", **short)).ended()
    await backups.make()
    await settled(world, fleet, [], settings)

    strangers = [str(uuid4()) for _ in range(950)]
    retried = bulk(
        organization_id, {"tags": {"add": ["b"]}}, "listed", candidate_ids=[*ids[:60], *strangers],
        expected_versions=dict.fromkeys(ids[:30], 2), on_conflict="merge",
    )  # fmt: skip
    doomed = bulk(organization_id, {"source": "x"}, "doomed", candidate_ids=[*ids, *strangers])
    await settled(
        world,
        fleet,
        [
            bulk(
                organization_id, {"rating": 4, "source": None}, "inline",
                candidate_ids=[*ids[:80], *strangers[:3]],
                expected_versions=dict.fromkeys(ids[:40], 2),
            )[0],
            bulk(organization_id, {"rating": 4}, "same", candidate_ids=ids[40:90])[0],
            bulk(organization_id, {"rating": 2}, "dry", candidate_ids=ids, dry_run=True)[0],
            bulk(organization_id, {"source": POISON}, "refused", candidate_ids=ids[:20])[0],
            bulk(organization_id, {"rating": 0}, "dry all", candidate_ids=[*ids, *strangers],
                 dry_run=True)[0],
            bulk(organization_id, {"rating": 0}, "none", filter={"source": "nobody's"})[0],
            bulk(organization_id, {"source": "found"}, "found", filter={"created_since": FIRST})[0],
            *workload.lane_updates(LANE, 50),
            retried[0],
            *workload.mixed(60),
            doomed[0],
            control(organization_id, doomed[1], "pause", "steer-1"),
            control(organization_id, doomed[1], "pause", "steer-2"),
            control(organization_id, doomed[1], "cancel", "steer-3"),
        ],
        settings,
    )  # fmt: skip
    await settled(
        world, fleet, [control(organization_id, retried[1], "retry_failed", "steer-4")], settings
    )
    halfway, halfway_id = bulk(
        organization_id, {"pipeline_stage": "moved"}, "halfway", candidate_ids=[*strangers, *ids]
    )
    await world.send([halfway])
    short = {"chunk_items": 50}
    await (await fleet.start(crash_at="after_chunk_operation:3", **short)).ended()
    paused = control(organization_id, halfway_id, "pause", "steer-5")
    await settled(world, fleet, [paused, *workload.wild(50)], short)
    assert 0 < await pending(world, halfway_id) < 1070
    lost = await rows(world)
    await backups.restore()

    standing = await rows(world)
    # With other chunks than a consumer of then would have made.
    wanted = await recovered(world, dry_run=True, chunk_items=20)
    demand_same(await rows(world), standing)
    assert await recovered(world, chunk_items=20) == wanted
    demand_same(await rows(world), lost)
    await settled(
        world, fleet, [control(organization_id, halfway_id, "resume", "steer-6")], settings
    )
    assert await pending(world, halfway_id) == 0
    found = await verify_operations(world)
    assert found[early_id]["applied"] == 120
    await goes_on(world, fleet, workload)


async def settled(
    world: World, fleet: Fleet, commands: Sequence[Any], settings: dict[str, Any]
) -> None:
    """All of it, and nobody there afterwards."""
    await world.send(commands)
    consumer = await fleet.start(**settings)
    await world.settled(seconds=120)
    assert await consumer.terminated() == 0


async def pending(world: World, operation_id: str) -> int:
    query = "SELECT pending FROM bulk_operations WHERE operation_id = $1::text::uuid"
    return int(await world.value(query, operation_id))


async def test_recover__of_an_operation_whose_owner_died(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    """Chunks that were committed and not published are lost, and done again."""
    workload = Workload(seed=75, candidates_for_each_lane=1, candidates_of_lane={LANE: 60})
    organization_id = workload.candidates_at(LANE)[0][0]
    ids = [key[1] for key in workload.candidates_at(LANE)]
    strangers = [str(uuid4()) for _ in range(950)]
    await settled(world, fleet, workload.creations(), {})
    await backups.make()
    halfway, halfway_id = bulk(
        organization_id, {"rating": 3}, "halfway", candidate_ids=[*ids, *strangers]
    )
    await world.send([halfway, *workload.lane_updates(LANE, 20)])
    await (await fleet.start(crash_at="after_chunk_operation:7", chunk_items=50)).ended()
    await backups.restore()
    await recovered(world)
    assert 0 < await pending(world, halfway_id) <= 1010
    await settled(world, fleet, workload.lane_updates(LANE, 20), {})
    assert (await verify_operations(world))[halfway_id]["applied"] == 60
    await goes_on(world, fleet, workload)


async def test_recover__says_when_the_database_decides_otherwise_than_then(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    workload = Workload(seed=76, candidates_for_each_lane=3)
    organization_id = workload.candidates_at(LANE)[0][0]
    ids = [key[1] for key in workload.candidates_at(LANE)]
    await settled(world, fleet, workload.creations(), {})
    await backups.make()
    command, _ = bulk(organization_id, {"source": POISON}, "one", candidate_ids=ids)
    await settled(world, fleet, [command], {})
    await backups.restore()
    await world.fetch(POISONED)
    standing = await rows(world)
    with pytest.raises(RecoverRefused, match=r"lane 0, result 4: settled again, .* otherwise"):
        await recovered(world)
    demand_same(await rows(world), standing)
    await world.fetch("ALTER TABLE candidates DROP CONSTRAINT no_poison")
    assert [lane.changes for lane in await recovered(world)] == [3]
    await verify(world)


async def test_recover__of_repairs_which_are_made_again(
    world: World, fleet: Fleet, backups: Backups
) -> None:
    """The backup has the rows as they were before they were repaired."""
    workload = Workload(seed=77, candidates_for_each_lane=3)
    await settled(world, fleet, workload.creations() + workload.updates(30), {})
    rated, gone = (Key(UUID(key[0]), UUID(key[1])) for key in workload.candidates_at(LANE)[:2])
    stray = Key(rated.organization_id, uuid4())
    which = "organization_id = $1 AND candidate_id = $2"
    await world.fetch(
        f"UPDATE candidates SET rating = 5, version = version + 3 WHERE {which}", *rated
    )
    await world.fetch(f"DELETE FROM candidates WHERE {which}", *gone)
    await world.fetch(
        "INSERT INTO candidates SELECT (jsonb_populate_record(c, jsonb_build_object('candidate_id',"
        f" $3::uuid))).* FROM candidates AS c WHERE {which}",
        *map(UUID, workload.candidates_at(LANE)[2]), stray.candidate_id,
    )  # fmt: skip
    await backups.make()
    async with open_repairer(world.database_url, actor="ann") as repairer:
        assert await repairer.repair([rated, gone, stray]) == 3
    await world.send(workload.lane_updates(LANE, 20))
    consumer = await fleet.start()
    decided = "SELECT sum(result_sequence) FROM lanes"
    total = world.sent + 3

    async def published() -> bool:
        await world.results.read_on()
        return bool(world.results.total == total == await world.value(decided))

    await world.until(published, what="all settled, repairs told")
    assert await consumer.terminated() == 0
    lost = await rows(world)
    await backups.restore()
    assert sum(lane.results for lane in await recovered(world)) == 3 + 20
    demand_same(await rows(world), lost)
    await demand_audited(world)
    await verify(world)


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
    await demand_audited(world)
