"""Contender (c), this service: commands published, applied, and read back as committed output.

The consumer is a process of its own, as in production; the clock runs from the first send to the
moment at which the last result can be read.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, NamedTuple

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.figures import cpu_seconds, rss_mb
from bench.workload import Update, command_headers, command_records
from contract.record import SourceRecord
from contract.topics import Topics
from domain.identity import home_lane


class Throughput(NamedTuple):
    """CPU in seconds by process, memory in MiB."""

    commands_per_second: float
    seconds: float
    cpu: dict[str, float]
    consumer_rss_mb: float


def together(parts: Sequence[Throughput], commands_total: int) -> Throughput:
    """What several runs of the same service come to."""
    seconds = sum(each.seconds for each in parts)
    cpu = {name: sum(each.cpu[name] for each in parts) for name in parts[0].cpu}
    rss_mb = max(each.consumer_rss_mb for each in parts)
    return Throughput(commands_total / seconds, seconds, cpu, rss_mb)


class Latency(NamedTuple):
    """Send to readable result, in milliseconds."""

    p50_ms: float
    p99_ms: float
    samples: int


@asynccontextmanager
async def consumer_processes(
    total: int,
    *,
    database_url: str,
    bootstrap_servers: str,
    topics: Topics,
    log: Any,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[list[int]]:
    """`funnel consume`, `total` times; yields the pids once they share all lanes evenly."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "FUNNEL_TOPIC_PREFIX": topics.prefix,
        "LOG_FORMAT": "json",
        **settings,
    }
    command = "from funnel.cli import main; main()"
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", command, "consume", env=environment, stdout=log, stderr=log
        )
        for _ in range(total)
    ]
    try:
        await _until_shared(database_url, processes)
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            await asyncio.wait_for(process.wait(), 30)


async def run_throughput(
    *,
    database_url: str,
    kafka: Mapping[str, Any],
    topics: Topics,
    partitions_total: int,
    updates: Sequence[Update],
    pids: Mapping[str, Sequence[int]],
) -> Throughput:
    """Publish all, wait until the last result can be read.

    Args:
        pids: processes whose CPU is told, by name; `consumers` among them.
    """
    records = command_records(updates, partitions_total)
    connection = await asyncpg.connect(database_url)
    producer = AIOKafkaProducer(**kafka, enable_idempotence=True, max_batch_size=256 * 1024)
    reader = AIOKafkaConsumer(**kafka, isolation_level="read_committed", group_id=None)
    await producer.start()
    await reader.start()
    before = {name: sum(map(cpu_seconds, group)) for name, group in pids.items()}
    published = await _published(connection)
    try:
        started = time.perf_counter()
        sending = asyncio.gather(
            *(_send(producer, topics.commands, lane, todo) for lane, todo in records.items())
        )
        await _until_journaled(connection, published, records)
        for lane, todo in records.items():
            await _until_readable(reader, topics, lane, published[lane] + len(todo))
        seconds = time.perf_counter() - started
        await sending
    finally:
        await producer.stop()
        await reader.stop()
        await connection.close()
    cpu = {name: sum(map(cpu_seconds, group)) - before[name] for name, group in pids.items()}
    return Throughput(
        len(updates) / seconds,
        seconds,
        cpu,
        max(rss_mb(pid, peak=True) for pid in pids["consumers"]),
    )


async def run_latency(
    *,
    kafka: Mapping[str, Any],
    topics: Topics,
    partitions_total: int,
    updates: Sequence[Update],
    per_second: float,
    beside: asyncio.Task[Any] | None = None,
) -> Latency:
    """Single commands at a steady pace; a reader on all results partitions.

    Args:
        beside: what goes on meanwhile; no more commands are sent once it is over.
    """
    consumer = AIOKafkaConsumer(
        **kafka, isolation_level="read_committed", group_id=None, fetch_max_wait_ms=100
    )
    producer = AIOKafkaProducer(**kafka, enable_idempotence=True)
    await consumer.start()
    await producer.start()
    ats = [TopicPartition(topics.results, p) for p in range(partitions_total)]
    consumer.assign(ats)
    await consumer.seek_to_end(*ats)
    for at in ats:
        await consumer.position(at)
    sent: dict[str, float] = {}
    took: list[float] = []

    async def read() -> None:
        while sending or sent:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                now = time.perf_counter()
                for record in records:
                    command_id = orjson.loads(record.value).get("command_id")
                    if command_id in sent:
                        took.append((now - sent.pop(command_id)) * 1000)

    sending = True
    reading = asyncio.create_task(read())
    try:
        started = time.perf_counter()
        for index, update in enumerate(updates):
            await asyncio.sleep(max(0, started + index / per_second - time.perf_counter()))
            if beside is not None and beside.done():
                break
            headers = command_headers()
            command_id = (dict(headers)["ce_id"] or b"").decode()
            sent[command_id] = time.perf_counter()
            await producer.send(
                topics.commands, update.data(), key=update.organization_id.encode(),
                partition=home_lane(update.organization_id, partitions_total),
                headers=list(headers),
            )  # fmt: skip
        sending = False
        await asyncio.wait_for(reading, 30)
    finally:
        reading.cancel()
        await consumer.stop()
        await producer.stop()
    took.sort()
    return Latency(took[len(took) // 2], took[int(len(took) * 0.99)], len(took))


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: Sequence[SourceRecord]
) -> None:
    batch = producer.create_batch()
    for record in records:
        fields = {
            "timestamp": record.timestamp,
            "key": record.key,
            "value": record.value,
            "headers": list(record.headers),
        }
        if batch.append(**fields) is None:
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**fields)
    await (await producer.send_batch(batch, topic, partition=partition))


async def _published(connection: asyncpg.Connection) -> dict[int, int]:
    rows = await connection.fetch("SELECT lane, result_sequence FROM lanes")
    return {row[0]: row[1] for row in rows}


async def _until_journaled(
    connection: asyncpg.Connection,
    before: Mapping[int, int],
    records: Mapping[int, Sequence[SourceRecord]],
) -> None:
    while True:
        now = await _published(connection)
        if all(now[lane] >= before[lane] + len(todo) for lane, todo in records.items()):
            return
        await asyncio.sleep(0.05)


async def _until_readable(
    reader: AIOKafkaConsumer, topics: Topics, lane: int, sequence: int
) -> None:
    """Looks at the newest committed records of results until this one is there."""
    at = TopicPartition(topics.results, lane)
    reader.assign([at])
    while True:
        end = (await reader.end_offsets([at]))[at]
        reader.seek(at, max(0, end - 3))  # the commit marker is an offset too
        for record in (await reader.getmany(at, timeout_ms=100)).get(at, ()):
            if int(dict(record.headers)["ce_sequence"]) >= sequence:
                return


async def _until_shared(database_url: str, processes: Sequence[asyncio.subprocess.Process]) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            while True:
                for process in processes:
                    if process.returncode is not None:
                        raise RuntimeError(f"a consumer ended with {process.returncode}")
                owners = await connection.fetchval(_OWNERS)
                if owners == len(processes):
                    return
                await asyncio.sleep(0.1)
    finally:
        await connection.close()


_OWNERS = """
SELECT CASE WHEN bool_and(owner IS NOT NULL) THEN count(DISTINCT owner) END FROM lanes
"""


def fresh_topics() -> Topics:
    """Topics of a run of their own."""
    return Topics(f"bench-{uuid.uuid4().hex[:8]}.")
