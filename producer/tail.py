"""The tail of a lane's results: the one witness of what was really published.

Believed only once no transaction is open on the partition, so that nothing can still appear
before what was read.
"""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalOperation, KafkaError

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


async def read_tail(kafka: Mapping[str, Any], topic: str, partition: int) -> Tail:
    """The last committed record of a results partition.

    Waits until the stable end is the high watermark; the caller bounds the wait.

    Raises:
        KAFKA_AWAY: Kafka does not answer.
        TailMissing: the topic was deleted.
        TailUnreadable: the record is not ours.
    """
    at = TopicPartition(topic, partition)
    end = await _settled_end(kafka, at)
    consumer = _consumer(kafka, "read_committed")
    try:
        await consumer.start()
        consumer.assign([at])
        first = int((await consumer.beginning_offsets([at]))[at])
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
        await _stop(consumer)


async def _settled_end(kafka: Mapping[str, Any], at: TopicPartition) -> int:
    """The end of the partition, once no transaction is open on it."""
    committed = _consumer(kafka, "read_committed")
    uncommitted = _consumer(kafka, "read_uncommitted")
    try:
        await committed.start()
        await uncommitted.start()
        if at.topic not in await committed.topics():
            raise TailMissing(at.topic)
        while True:
            high = int((await uncommitted.end_offsets([at]))[at])
            stable = int((await committed.end_offsets([at]))[at])
            if stable >= high:
                return high
            await asyncio.sleep(0.02)
    finally:
        await _stop(committed)
        await _stop(uncommitted)


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
        raise TailUnreadable(f"the record at offset {record.offset} has no sequence")
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


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """In a task of its own: aiokafka passes on the cancellation of its own tasks."""
    stopping = asyncio.create_task(consumer.stop())
    stopping.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait({stopping}, timeout=_STOP_WITHIN.total_seconds())
