"""One partition of an output topic, read from its first record to an end that stands still.

The end is believed only once no transaction is open before it: whatever was sent before it was
asked for is then there to be read, or aborted for good.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

SETTLED_SECONDS_MAX = 30.0
"""Longer than a transaction of ours may stay open (10 s) before the broker aborts it."""
_SETTLED_POLL_SECONDS = 0.05
_ANSWER_SECONDS_MAX = 60.0
_STOP_SECONDS_MAX = 5.0


class OutputAway(KafkaError):  # type: ignore[misc]  # aiokafka ships no types
    """Kafka does not answer, or a transaction stays open; asking again later may help."""


class TopicMissing(Exception):
    """A topic of the output is not there: run `funnel topics apply`."""


class LogRecord(NamedTuple):
    """One record, with the number it gives itself: its sequence, or its origin's offset."""

    offset: int
    position: int | None
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    timestamp: int


class OutputLog:
    """A partition as a stream of records that can be looked at before they are taken.

    Attributes:
        first: the offset at which the partition begins.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, at: TopicPartition, *, first: int, end: int, header: str
    ) -> None:
        self._consumer = consumer
        self._at = at
        self._end = end
        self._header = header
        self._waiting: deque[LogRecord] = deque()
        self.first = first

    @property
    def shortened(self) -> bool:
        """Does it begin later than offset 0, so that its front was removed?"""
        return self.first > 0

    async def peek(self) -> LogRecord | None:
        """The next record, None at the end."""
        while not self._waiting:
            if await self._consumer.position(self._at) >= self._end:
                return None
            async with answered():
                polled = await self._consumer.getmany(self._at, timeout_ms=1000)
            for record in polled.get(self._at, ()):
                if record.offset < self._end:
                    self._waiting.append(self._record(record))
        return self._waiting[0]

    def take(self) -> LogRecord:
        """The record that was looked at; the next look is at the one behind it."""
        return self._waiting.popleft()

    def _record(self, record: Any) -> LogRecord:
        headers = list(record.headers)
        text = dict(headers).get(self._header) or b""
        position = int(text) if text.isdigit() else None
        return LogRecord(
            record.offset, position, record.key, record.value, headers, record.timestamp
        )


@asynccontextmanager
async def open_log(
    kafka: Mapping[str, Any],
    topic: str,
    partition: int,
    *,
    header: str,
    offset: int = 0,
    since: datetime | None = None,
) -> AsyncIterator[OutputLog]:
    """The committed records that a partition holds at this moment.

    Args:
        header: the name of the header that numbers the records.
        offset: leave out what is before it.
        since: leave out what was written before this instant, by the records' timestamps.

    Raises:
        OutputAway: Kafka does not answer, or a transaction stays open.
    """
    at = TopicPartition(topic, partition)
    end = await _settled_end(kafka, at)
    async with reading(kafka, "read_committed") as consumer:
        consumer.assign([at])
        async with answered():
            first = int((await consumer.beginning_offsets([at]))[at])
            start = max(first, offset)
            if since is not None:
                start = max(start, await _offset_since(consumer, at, since, end))
        consumer.seek(at, start)
        yield OutputLog(consumer, at, first=first, end=end, header=header)


async def _offset_since(
    consumer: AIOKafkaConsumer, at: TopicPartition, since: datetime, end: int
) -> int:
    found = await consumer.offsets_for_times({at: int(since.timestamp() * 1000)})
    return end if found[at] is None else int(found[at].offset)


async def demand_topics(
    kafka: Mapping[str, Any], names: list[str], *, partitions_total: int
) -> None:
    """Raises TopicMissing, OutputAway."""
    admin = AIOKafkaAdminClient(**kafka)
    try:
        async with answered():
            await admin.start()
            # All of them: asking by name may create one.
            described = await admin.describe_topics(None)
    finally:
        await admin.close()
    found = {each["topic"]: len(each["partitions"]) for each in described}
    for name in names:
        if found.get(name) != partitions_total:
            raise TopicMissing(
                f"{name} has {found.get(name, 0)} partitions, the database knows "
                f"{partitions_total} lanes: run `funnel topics check`."
            )


async def _settled_end(kafka: Mapping[str, Any], at: TopicPartition) -> int:
    async with (
        reading(kafka, "read_uncommitted") as all_records,
        reading(kafka, "read_committed") as committed,
        answered(SETTLED_SECONDS_MAX),
    ):
        end = int((await all_records.end_offsets([at]))[at])
        while int((await committed.end_offsets([at]))[at]) < end:  # noqa: ASYNC110  Kafka is asked
            await asyncio.sleep(_SETTLED_POLL_SECONDS)
    return end


@asynccontextmanager
async def reading(kafka: Mapping[str, Any], isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group, to which partitions are assigned by hand."""
    consumer = AIOKafkaConsumer(
        **kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation,
        fetch_max_wait_ms=100,
    )
    try:
        async with answered():
            await consumer.start()
        yield consumer
    finally:
        await _stop(consumer)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """It has only read: a broker that is gone leaves nothing to wait for."""
    try:
        async with asyncio.timeout(_STOP_SECONDS_MAX):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError):
        return


@asynccontextmanager
async def answered(seconds_max: float = _ANSWER_SECONDS_MAX) -> AsyncIterator[None]:
    """Within this time, or OutputAway; also where aiokafka asserts that it knows of a broker."""
    try:
        async with asyncio.timeout(seconds_max):
            yield
    except TimeoutError as error:
        raise OutputAway(f"Kafka has not answered for {seconds_max:.0f} s") from error
    except AssertionError as error:  # aiokafka's, of a transaction's coordinator
        raise OutputAway("Kafka is just back, and knows of no broker yet") from error
