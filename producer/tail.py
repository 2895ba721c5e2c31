"""The tail of a numbered output log: the one witness of what was really published.

Believed only once no transaction is open on the partition, so that nothing can still appear
before what was read.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

from producer.stopping import stop_clients

KAFKA_AWAY = (
    KafkaError,
    OSError,
    TimeoutError,
    IllegalOperation,  # fenced between two steps of a transaction, which is no more
    AssertionError,  # aiokafka's, where a broker that is just back knows of no broker
)
_STOP_WITHIN = timedelta(seconds=5)
_STEP_FIRST = 16
_STEP_FACTOR = 16


class Tail(NamedTuple):
    """The last result's sequence and time, None if no record is left, and the partition's ends."""

    sequence: int | None
    time: str | None
    first_offset: int
    end_offset: int


class TailUnreadable(Exception):
    """The newest record carries no sequence of ours: somebody else wrote it."""


class TailMissing(Exception):
    """There is no such topic."""


async def read_tail(
    kafka: Mapping[str, Any], topic: str, partition: int, *, settled: bool = True
) -> Tail:
    """The last committed record of a partition.

    Waits until the stable end is the high watermark; the caller bounds the wait.

    Args:
        settled: False looks at what is committed before the first open transaction, at once.

    Raises:
        KAFKA_AWAY: Kafka does not answer.
        TailMissing: the topic was deleted.
        TailUnreadable: the record is not ours.
    """
    at = TopicPartition(topic, partition)
    end = await _settled_end(kafka, at) if settled else None
    consumer = _consumer(kafka, "read_committed")
    try:
        await consumer.start()
        consumer.assign([at])
        first = int((await consumer.beginning_offsets([at]))[at])
        if end is None:
            end = int((await consumer.end_offsets([at]))[at])
        step = _STEP_FIRST
        while True:
            start = max(first, end - step)
            newest = await _newest(consumer, at, start, end)
            if newest is not None:
                return Tail(*_numbered(newest), first, end)
            if start == first:
                return Tail(None, None, first, end)
            step *= _STEP_FACTOR
    finally:
        await stop_clients(consumer, within=_STOP_WITHIN)


async def unsettled(
    kafka: Mapping[str, Any], partitions: Iterable[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Those of them that exist and have a transaction open. Raises KAFKA_AWAY."""
    async with _both(kafka) as (uncommitted, committed):
        topics = await committed.topics()
        asked = [TopicPartition(*each) for each in partitions if each[0] in topics]
        high, stable = await uncommitted.end_offsets(asked), await committed.end_offsets(asked)
    return {(at.topic, at.partition) for at in asked if stable[at] < high[at]}


async def _settled_end(kafka: Mapping[str, Any], at: TopicPartition) -> int:
    """The end of the partition, once no transaction is open on it."""
    async with _both(kafka) as (uncommitted, committed):
        if at.topic not in await committed.topics():
            raise TailMissing(at.topic)
        while True:
            high = int((await uncommitted.end_offsets([at]))[at])
            stable = int((await committed.end_offsets([at]))[at])
            if stable >= high:
                return high
            await asyncio.sleep(0.02)


@asynccontextmanager
async def _both(kafka: Mapping[str, Any]) -> AsyncIterator[tuple[AIOKafkaConsumer, ...]]:
    """A reader of everything, and one that sees what is committed only."""
    readers = _consumer(kafka, "read_uncommitted"), _consumer(kafka, "read_committed")
    try:
        for each in readers:
            await each.start()
        yield readers
    finally:
        await stop_clients(*readers, within=_STOP_WITHIN)


async def _newest(consumer: AIOKafkaConsumer, at: TopicPartition, start: int, end: int) -> Any:
    consumer.seek(at, start)
    newest = None
    while await consumer.position(at) < end:
        polled = await consumer.getmany(at, timeout_ms=100)
        for record in polled.get(at, ()):
            newest = record
    return newest


def _numbered(record: Any) -> tuple[int, str]:
    headers = dict(record.headers)
    text = headers.get("ce_sequence") or b""
    if not text.isdigit():
        raise TailUnreadable(
            f"the record at offset {record.offset} on {record.topic} has no sequence"
        )
    return int(text), (headers.get("ce_time") or b"").decode("utf-8", "replace")


def _consumer(kafka: Mapping[str, Any], isolation: str) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level=isolation,
        fetch_max_wait_ms=50,
    )
