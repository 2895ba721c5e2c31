"""`funnel tail` and `funnel get`, as processes, against real servers."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from aiokafka import AIOKafkaProducer

from contract.envelope import Envelope
from contract.events import EventBuilder
from contract.topics import Topics
from tests.settling import journal_row, write_rows

Kafka = dict[str, Any]
ORGANIZATION = "00000000-0000-4000-8000-00000000000a"
CANDIDATE = "00000000-0000-4000-8000-0000000000c1"
CHANGE = {
    "organization_id": ORGANIZATION,
    "candidate_id": CANDIDATE,
    "version": 2,
    "changed": {"rating": {"from": 1, "to": 2}},
    "actor": "ann",
}


@asynccontextmanager
async def funnel(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs `funnel`; it must have ended when the context does."""
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from funnel.cli import main; main()",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def write_events(kafka: Kafka, topics: Topics, total: int) -> None:
    """Results and changes of `total` commands, over all lanes, and one transaction aborted."""
    builder = EventBuilder(topics)
    envelope = Envelope("c1", "/ats", "candidate.update.v1", CHANGE)
    rows = [
        journal_row(
            envelope,
            lane=number % 4,
            sequence=number // 4 + 1,
            change_sequence=number // 4 + 1,
            outcome="applied",
            version=2,
            previous_version=1,
            change=orjson.dumps(CHANGE),
        )
        for number in range(total)
    ]
    async with AIOKafkaProducer(**kafka, transactional_id=topics.results) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topics.results, b"aborted", partition=0)
        await producer.abort_transaction()
        await write_rows(producer, builder, rows)


async def tailed(
    kafka: Kafka, topics: Topics, total: int, *arguments: str, sign: int = signal.SIGINT
) -> list[bytes]:
    """The first `total` lines of `funnel tail`, which is then asked to stop."""
    async with funnel(
        "tail",
        *arguments,
        KAFKA_BOOTSTRAP_SERVERS=str(kafka["bootstrap_servers"]),
        FUNNEL_TOPIC_PREFIX=topics.prefix,
    ) as process:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            lines = [await process.stdout.readline() for _ in range(total)]
            process.send_signal(sign)
            rest, errors = await process.communicate()
    assert (process.returncode, rest, errors) == (0, b"", b"")
    return lines


async def test_tail__results_of_every_partition_as_json(
    kafka_options: Kafka, topics: Topics
) -> None:
    await write_events(kafka_options, topics, 10)
    lines = await tailed(kafka_options, topics, 10, "results", "--from-beginning", "--json")
    records = [orjson.loads(line) for line in lines]
    assert {record["partition"] for record in records} == {0, 1, 2, 3}
    first = min(records, key=lambda record: (record["partition"], record["offset"]))
    assert first.keys() == {"topic", "partition", "offset", "key", "headers", "value"}
    assert first["topic"] == topics.results
    assert first["key"] == ORGANIZATION
    assert first["headers"]["ce_type"] == "candidate.command.settled.v1"
    assert first["value"]["outcome"] == "applied"


async def test_tail__lines_for_people(kafka_options: Kafka, topics: Topics) -> None:
    await write_events(kafka_options, topics, 1)
    options = ("--from-beginning",)
    [result] = await tailed(kafka_options, topics, 1, "results", *options)
    [change] = await tailed(kafka_options, topics, 1, "changes", *options, sign=signal.SIGTERM)
    assert result.decode().endswith(
        f"candidate.command.settled.v1 {ORGANIZATION} applied {CANDIDATE} 2 c1\n"
    )
    assert change.decode().endswith(
        f"candidate.updated.v1 {ORGANIZATION}/{CANDIDATE} version 2: rating by ann\n"
    )


async def test_tail__dead_letters_whatever_their_bytes(
    kafka_options: Kafka, topics: Topics
) -> None:
    async with AIOKafkaProducer(**kafka_options) as producer:
        await producer.send_and_wait(
            topics.dead_letters,
            b"\xff\x00",
            partition=2,
            headers=[("x-error-code", b"not_json"), ("odd", b"\xfe"), ("null", None)],
        )
        await producer.send_and_wait(topics.dead_letters, None, key=b"k", partition=2)
    options = ("dead-letters", "--from-beginning")
    json = await tailed(kafka_options, topics, 2, *options, "--json")
    text = await tailed(kafka_options, topics, 2, *options)
    assert orjson.loads(json[0]) == {
        "topic": topics.dead_letters,
        "partition": 2,
        "offset": 0,
        "key": None,
        "headers": {"x-error-code": "not_json", "odd": {"base64": "/g=="}, "null": None},
        "value": {"base64": "/wA="},
    }
    assert orjson.loads(json[1])["value"] is None
    assert b"2/0 not_json - " in text[0]


async def test_tail__no_such_topic(kafka_options: Kafka) -> None:
    async with funnel(
        *("tail", "results"),
        KAFKA_BOOTSTRAP_SERVERS=str(kafka_options["bootstrap_servers"]),
        FUNNEL_TOPIC_PREFIX="absent.",
    ) as process:
        _, errors = await process.communicate()
    assert process.returncode == 78
    assert b"There is no topic absent.candidates.results.v1" in errors


async def test_tail__kafka_away() -> None:
    async with funnel("tail", "results", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1") as process:
        _, errors = await process.communicate()
    assert process.returncode == 69
    assert len(errors.splitlines()) == 1


async def insert_candidate(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """INSERT INTO candidates
           VALUES ($1, $2, 'Åsa', 'Ek', 'asa@example.com', NULL, 'offer', 'a.b', 4, NULL,
                   '{x,y}', '{"b": 1, "a": {"c": null}}', 3, '2026-01-02T03:04:05Z', '2026-01-03Z')
        """,
        UUID(ORGANIZATION),
        UUID(CANDIDATE),
    )
    await connection.close()


async def test_get__as_json_and_for_people(database_url: str) -> None:
    await insert_candidate(database_url)
    get = ("get", CANDIDATE, "--organization", ORGANIZATION)
    async with funnel(*get, "--json", DATABASE_URL=database_url) as process:
        json, _ = await process.communicate()
    async with funnel(*get, DATABASE_URL=database_url) as process:
        text, _ = await process.communicate()
    assert orjson.loads(json) == {
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        "first_name": "Åsa",
        "last_name": "Ek",
        "email": "asa@example.com",
        "phone": None,
        "status": "offer",
        "pipeline_stage": "a.b",
        "rating": 4,
        "source": None,
        "tags": ["x", "y"],
        "attributes": {"a": {"c": None}, "b": 1},
        "version": 3,
        "created_at": "2026-01-02T03:04:05.000000Z",
        "updated_at": "2026-01-03T00:00:00.000000Z",
    }
    assert "first_name       Åsa\n" in text.decode()
    assert 'tags             ["x","y"]\n' in text.decode()


async def test_get__absent_or_another_organizations(database_url: str) -> None:
    await insert_candidate(database_url)
    get = ("get", CANDIDATE, "--organization", CANDIDATE)
    async with funnel(*get, DATABASE_URL=database_url) as process:
        out, errors = await process.communicate()
    assert (process.returncode, out) == (65, b"")
    assert b"there is no candidate" in errors


async def test_get__database_away() -> None:
    get = ("get", CANDIDATE, "--organization", ORGANIZATION)
    async with funnel(*get, DATABASE_URL="postgresql://127.0.0.1:1/x") as process:
        _, errors = await process.communicate()
    assert process.returncode == 69
    assert errors.startswith(b"funnel: PostgreSQL cannot be reached: ")
    assert len(errors.splitlines()) == 1
