"""Lanes that stand still: why is said once, kept for operators, and over only when it is over."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from structlog.testing import capture_logs

import consumer.held
import consumer.lane
import consumer.service
from consumer.lane import LaneStuck
from consumer.membership import Membership
from consumer.source import Source
from consumer.store import open_pool
from tests.consumer.conftest import PARTITIONS, WITHIN_SECONDS, Bed, create, new_key

LANE = 1
LOOK_EVERY_SECONDS = 0.02


async def until(bed: Bed, query: str) -> None:
    """Returns once the query says true."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while not await bed.database.fetchval(query):  # noqa: ASYNC110  another process answers
            await asyncio.sleep(LOOK_EVERY_SECONDS)


def gauge(bed: Bed, name: str) -> float | None:
    return bed.registry.get_sample_value(name, {"lane": str(LANE)})


async def test_halted__by_a_batch_that_unpacks_to_too_much(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That lane alone; its note stays through every fruitless try, until it works again."""
    bed = own_bed
    monkeypatch.setattr(consumer.service, "LANE_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(consumer.lane, "_HOUSEKEEPING", timedelta(seconds=0.02))
    tries: list[int] = []
    note_halted = Membership.note_halted

    async def counted(self: Membership, claim: Any, ended: Any) -> None:
        await note_halted(self, claim, ended)
        tries.append(claim.lane)

    monkeypatch.setattr(Membership, "note_halted", counted)
    await bed.database.execute("""
        CREATE TABLE cleared (lane integer);
        GRANT INSERT ON cleared TO funnel_consumer;
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO cleared VALUES (new.lane); RETURN new; END $$;
        CREATE TRIGGER note AFTER UPDATE ON lanes FOR EACH ROW
            WHEN (old.halted IS NOT NULL AND new.halted IS NULL) EXECUTE FUNCTION note();
    """)
    async with AIOKafkaProducer(
        **bed.kafka, compression_type="zstd", max_request_size=40 << 20
    ) as producer:
        bomb = await producer.send_and_wait(
            bed.topics.commands, bytes(33 << 20), partition=LANE, key=b"x"
        )
    before, behind = create(new_key(LANE + 1)), create(new_key(LANE))
    async with bed.consuming():
        await bed.settle(before)
        await bed.send(behind)
        async with asyncio.timeout(WITHIN_SECONDS):
            while len(tries) < 4:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        assert set(tries) == {LANE}
        assert await bed.database.fetchval("SELECT count(*) FROM cleared") == 0
        assert gauge(bed, "funnel_lane_halted") == 1
        halted = await bed.database.fetchval("SELECT halted FROM lanes WHERE lane = $1", LANE)
        assert "unpacked" in halted
        assert "lanes.next_offset" in halted
        await bed.database.execute(
            "UPDATE lanes SET next_offset = $2, last_record_offset = NULL WHERE lane = $1",
            LANE, bomb.offset + 1,
        )  # fmt: skip
        await bed.result(behind)
        await until(bed, "SELECT bool_and(halted IS NULL) FROM lanes")
        assert gauge(bed, "funnel_lane_halted") == 0


async def test_held__by_an_open_transaction_of_another_client(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = own_bed
    monkeypatch.setattr(consumer.held, "LANE_HELD_SECONDS", 0.3)
    monkeypatch.setattr(consumer.lane, "_HOUSEKEEPING", timedelta(seconds=0.05))
    command = create(new_key(LANE))
    with capture_logs() as lines:
        async with (
            AIOKafkaProducer(**bed.kafka, transactional_id=f"{bed.topics.commands}.up") as upstream,
            bed.consuming(),
        ):
            await upstream.begin_transaction()
            await upstream.send_and_wait(bed.topics.commands, b"", partition=LANE, key=b"x")
            await bed.send(command)
            await until(bed, "SELECT held_since IS NOT NULL FROM lanes WHERE lane = 1")
            assert gauge(bed, "funnel_lane_held") == 1
            others = "SELECT count(held_since) FROM lanes WHERE lane <> 1"
            assert await bed.database.fetchval(others) == 0
            await upstream.abort_transaction()
            await bed.result(command)
            await until(bed, "SELECT bool_and(held_since IS NULL) FROM lanes")
            assert gauge(bed, "funnel_lane_held") == 0
    said = [
        line["action"] for line in lines if line.get("action") in ("lane_held", "lane_not_held")
    ]
    assert said == ["lane_held", "lane_not_held"]
    assert not [line for line in lines if line.get("action") == "source_rebuilt"]


async def test_stuck__no_progress_with_real_lag_ends_the_process(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that gives nothing is rebuilt once; the second one gives nothing either."""

    async def hang(_: Source, wait: timedelta) -> list[Any]:
        await asyncio.sleep(wait.total_seconds())
        return []

    monkeypatch.setattr(Source, "poll", hang)
    monkeypatch.setattr(consumer.lane, "_ASK_EVERY", timedelta(seconds=0.05))
    await own_bed.send(create(new_key(LANE)))
    with capture_logs() as lines, pytest.raises(LaneStuck, match=f"lane {LANE} makes no progress"):
        async with own_bed.consuming(watchdog=timedelta(seconds=0.3)) as consumer_task:
            await asyncio.wait_for(consumer_task, WITHIN_SECONDS)
    assert [line["lane"] for line in lines if line.get("action") == "source_rebuilt"] == [LANE]


async def test_leases__are_renewed_though_the_lanes_use_every_connection(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools: dict[str, asyncpg.Pool] = {}

    async def noted(*args: Any, name: str = "lanes", **options: Any) -> asyncpg.Pool:
        pools[name] = await open_pool(*args, name=name, **options)
        return pools[name]

    monkeypatch.setattr("funnel.consume.open_pool", noted)
    async with own_bed.consuming(lease=timedelta(seconds=2)):
        await own_bed.settle(create(new_key(LANE)))
        lanes = pools["lanes"]
        taken = [await lanes.acquire(timeout=10) for _ in range(lanes.get_max_size())]
        for _ in range(3):
            lease = await own_bed.database.fetchval("SELECT lease_until FROM consumers")
            await until(own_bed, f"SELECT lease_until > '{lease}' FROM consumers")
        for connection in taken:
            await lanes.release(connection)


async def test_turns__a_lane_that_waits_for_one_holds_nothing(
    own_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, turn = asyncio.Event(), asyncio.Event()

    class Turns:
        def __init__(self, _: int) -> None: ...

        async def __aenter__(self) -> None:
            waits.set()
            await turn.wait()

        async def __aexit__(self, *_: object) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr("funnel.consume.asyncio.Semaphore", Turns)
        command = create(new_key(LANE))
        await own_bed.send(command)
        async with own_bed.consuming():
            await asyncio.wait_for(waits.wait(), WITHIN_SECONDS)
            # Others may hold a row for a moment; who waited with it in hand would hold it for good.
            await own_bed.database.execute("SET lock_timeout = '10s'")
            locked = await own_bed.database.fetch("SELECT lane FROM lanes FOR UPDATE")
            assert len(locked) == PARTITIONS
            await until(
                own_bed,
                "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()"
                " AND state LIKE 'idle in transaction%'",
            )
            turn.set()
            await own_bed.result(command)
