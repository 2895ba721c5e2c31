"""`funnel doctor` on real servers, in the states that wake people up; and its judgement alone."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

import consumer.held
import consumer.lane
from audit.diagnosis import Diagnosis, Line
from audit.doctor import Patient, examine
from audit.doctor_kafka import CommandLog
from audit.doctor_lanes import judge_lanes
from audit.doctor_postgres import LaneStanding, _partitions
from contract.topics import Topics
from funnel.consume import describe
from migrations.files import read_migrations
from producer.admin import check_topics
from tests.consumer.conftest import PARTITIONS, WITHIN_SECONDS, Bed, create, new_key

FUNNEL = Path(sys.executable).with_name("funnel")
LANE = 1
VERSIONS = tuple(each.version for each in read_migrations())
Doctor = Callable[..., Awaitable[Diagnosis]]


@pytest.fixture
def doctor(own_bed: Bed) -> Doctor:
    async def run(*, partitions_total: int = PARTITIONS, topics: Topics | None = None) -> Diagnosis:
        named = topics or own_bed.topics
        diagnosis = Diagnosis(lambda _: None)
        await examine(
            Patient(
                database_url=own_bed.database_url,
                kafka=own_bed.kafka,
                topics=named,
                partitions_total=partitions_total,
                deduplication=timedelta(days=35),
                schema_versions=VERSIONS,
                cluster=lambda: describe(own_bed.kafka, named),
                topic_problems=lambda: check_topics(
                    own_bed.kafka, named, partitions_total=partitions_total
                ),
            ),
            diagnosis,
        )
        return diagnosis

    return run


def of(diagnosis: Diagnosis, check: str) -> Line:
    """The one line of this check."""
    (line,) = [line for line in diagnosis.lines if line.check == check]
    return line


async def test_doctor__sees_what_a_lane_waits_for(
    own_bed: Bed, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed = own_bed
    monkeypatch.setattr(consumer.held, "LANE_HELD_SECONDS", 0.2)
    monkeypatch.setattr(consumer.lane, "_HOUSEKEEPING", timedelta(seconds=0.05))
    assert of(await doctor(), "consumers").fault == "service"  # none has ever run
    async with bed.consuming():
        await bed.settle(create(new_key(LANE)))
        well = await doctor()
        assert well.fault is None, [line for line in well.lines if line.status == "FAIL"]
        assert of(well, f"lane {LANE}").status == "OK"
        assert of(well, "transactions of Kafka").status == "OK"
        assert of(well, "topics").status == "OK"
        assert int(of(well, "connections").said.split()[0]) > PARTITIONS
        async with AIOKafkaProducer(
            **bed.kafka, transactional_id=f"{bed.topics.commands}.up"
        ) as up:
            await up.begin_transaction()
            await up.send_and_wait(bed.topics.commands, b"", partition=LANE, key=b"x")
            async with asyncio.timeout(WITHIN_SECONDS):
                while not await bed.database.fetchval(  # noqa: ASYNC110
                    "SELECT held_since IS NOT NULL FROM lanes WHERE lane = $1", LANE
                ):
                    await asyncio.sleep(0.05)
            held = of(await doctor(), f"lane {LANE}")
            assert (held.status, "open transaction" in held.said) == ("WARN", True)
            assert "find-hanging" in (held.remedy or "")
            await up.abort_transaction()
    # Nobody is there any more, and a command has waited for long.
    waiting = create(new_key(LANE))
    await bed.producer.send_and_wait(
        bed.topics.commands, orjson.dumps(waiting.data), partition=LANE,
        timestamp_ms=int((time.time() - 400) * 1000), headers=list(waiting.headers.items()),
    )  # fmt: skip
    await bed.database.execute("UPDATE lanes SET halted = 'it broke. Mend it' WHERE lane = 2")
    ill = await doctor()
    assert ill.fault == "service"
    lines = [line for line in ill.lines if line.check == f"lane {LANE}"]
    assert any(line.status == "FAIL" and "has waited 7 min" in line.said for line in lines)
    halted = [line for line in ill.lines if line.check == "lane 2" and line.status == "FAIL"]
    assert [(line.said, line.remedy) for line in halted] == [("it broke", "Mend it")]
    # What is not as needed is told by the code of bad configuration.
    assert (await doctor(partitions_total=8)).fault == "configuration"
    assert (await doctor(topics=Topics("absent."))).fault == "configuration"
    await bed.database.execute("DELETE FROM schema_migrations WHERE version = $1", VERSIONS[1])
    schema = of(await doctor(), "schema")
    assert (schema.fault, VERSIONS[1] in schema.said) == ("configuration", True)


async def test_doctor__as_a_process(own_bed: Bed, tmp_path: Path) -> None:
    async def run(*options: str, **environment: str) -> tuple[int, list[str]]:
        process = await asyncio.create_subprocess_exec(
            FUNNEL, "doctor", *options, cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
            env={
                "DATABASE_URL": own_bed.database_url,
                "KAFKA_BOOTSTRAP_SERVERS": str(own_bed.kafka["bootstrap_servers"]),
                "FUNNEL_TOPIC_PREFIX": own_bed.topics.prefix,
                "FUNNEL_PARTITIONS": str(PARTITIONS),
            } | environment,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode().splitlines()

    async with own_bed.consuming():
        await own_bed.settle(create(new_key(LANE)))
        code, lines = await run()
        assert code == 0, lines
        assert lines[-1].endswith("0 FAIL")
    code, lines = await run(
        "--json", DATABASE_URL="postgresql://u@127.0.0.1:1/x", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1"
    )
    assert code == 69
    told = [orjson.loads(line) for line in lines]
    away = {"postgresql", "kafka"}
    assert {line["check"] for line in told if line["status"] == "FAIL"} == away
    assert all(line["remedy"] for line in told if line["status"] == "FAIL")
    # Nobody says where they are, and no embedded ones run here.
    code, lines = await run("--json", DATABASE_URL="", KAFKA_BOOTSTRAP_SERVERS="")
    told = [orjson.loads(line) for line in lines]
    assert (code, {line["check"] for line in told if line["status"] == "FAIL"}) == (69, away)


WELL = LaneStanding(0, 4, "c", "cluster", "one", True, None, None, 10, 0, None, 5.0)


@pytest.mark.parametrize(
    ("lane", "log", "status", "said"),
    [
        (WELL, CommandLog(0, 10, 10), "OK", "owned by one, 0 offsets behind"),
        (WELL, CommandLog(0, 10, 12), "OK", "transaction of another client is open"),
        (WELL, CommandLog(0, 20, 20, 990.0), "OK", "10 offsets behind"),
        (WELL, CommandLog(0, 20, 20, 960.0), "WARN", "has waited 40 s"),
        (WELL, CommandLog(0, 20, 20, 500.0), "FAIL", "has waited 8 min"),
        (WELL, CommandLog(11, 20, 20), "FAIL", "stands at offset 10"),
        (WELL, CommandLog(0, 5, 5), "FAIL", "stands at offset 10"),
        (WELL._replace(owner=None, owner_lives=False), None, "WARN", "owned by nobody"),
        (WELL._replace(owner_lives=False), None, "WARN", "whose lease is over"),
        (WELL._replace(halted="why. What"), None, "FAIL", "why"),
        (WELL._replace(held_seconds=9.0), None, "WARN", "holds it, for 9 s"),
        (WELL._replace(held_seconds=900.0), None, "FAIL", "holds it, for 15 min"),
        (WELL._replace(unpublished=3, unpublished_seconds=2.0), None, "OK", "owned by one"),
        (WELL._replace(unpublished=3, unpublished_seconds=301.0), None, "FAIL", "3 results"),
    ],
)
def test_judge_lanes__one_lane(
    lane: LaneStanding, log: CommandLog | None, status: str, said: str
) -> None:
    logs = {} if log is None else {0: log}
    (line,) = judge_lanes([lane], logs, cluster_id="cluster", partitions_total=4, now=1000.0)
    assert (line.check, line.status) == ("lane 0", status)
    assert said in line.said


def test_judge_lanes__of_another_cluster() -> None:
    first, *_ = judge_lanes([WELL], {}, cluster_id="other", partitions_total=4, now=0.0)
    assert first.fault == "configuration"


@pytest.mark.parametrize(
    ("name", "status"),
    [("journal_2026_12", "OK"), ("journal_2026_11", "WARN"), ("journal_2026_10", "FAIL")],
)
def test_partitions__ahead_of_need(name: str, status: str) -> None:
    assert (
        _partitions([name, "journal_2026_09"], datetime(2026, 11, 25, tzinfo=UTC)).status == status
    )
