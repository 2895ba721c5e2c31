"""Delivers command records to Kafka, or says that they were not delivered.

One idempotent producer at a time. After any failure it is thrown away before another starts, so
that a record given up on cannot overtake or follow later ones from a forgotten buffer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from contract.topics import COMMAND_MESSAGE_BYTES_MAX
from producer.command_errors import CommandNotSent, TopicMissing
from producer.outgoing import CommandRecord
from producer.stopping import stop_or_cut

log = structlog.get_logger("producer")

# One batch of a bulk load: aiokafka's cost is by the batch, and beyond this it gains nothing.
_BATCH_BYTES_MAX = 512 * 1024
# A broker that is there answers in milliseconds: a guess with a wide margin.
_START_SECONDS_MAX = 10.0
_LOOK_SECONDS_MAX = 5.0
_STOP_WITHIN = timedelta(seconds=2)


class Sent(NamedTuple):
    """Where Kafka has stored a command."""

    command_id: str
    partition: int
    offset: int


class Delivery:
    """The way to one commands topic.

    Args:
        kafka: keyword arguments of aiokafka's clients: `bootstrap_servers`, `security_protocol`.
        seconds_max: how long one delivery may take before it counts as failed.
    """

    def __init__(self, *, kafka: Mapping[str, Any], topic: str, seconds_max: float) -> None:
        if "_crecords" not in DefaultRecordBatchBuilder.__module__:
            raise RuntimeError("aiokafka's C extension is not loaded: 20 times slower without it.")
        self._kafka = kafka
        self._topic = topic
        self._seconds_max = seconds_max
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._enqueuing = asyncio.Lock()
        self._partitions_total: int | None = None

    async def partitions_total(self) -> int:
        """How many partitions the topic has, fixed for its life.

        Raises:
            TopicMissing, CommandNotSent: as `one`.
        """
        if self._partitions_total is None:
            async with self._producing() as producer:
                # All topics: to ask for one that is missing would be retried for minutes.
                metadata = await producer.client.fetch_all_metadata()
            partitions = metadata.partitions_for_topic(self._topic)
            if not partitions:
                raise TopicMissing(f"This client sees no topic {self._topic}.")
            self._partitions_total = len(partitions)
        return self._partitions_total

    async def reachable(self) -> bool:
        """Whether the topic can be written to now, as far as a look at its metadata tells.

        A producer that gets no answer is thrown away: the next look starts another.
        """
        try:
            await self.partitions_total()
            async with self._producing(_LOOK_SECONDS_MAX) as producer:
                if not await producer.client.force_metadata_update():
                    raise KafkaConnectionError("no broker answers")
        except CommandNotSent:
            return False
        return True

    async def one(self, record: CommandRecord) -> Sent:
        """Deliver one record; concurrent calls share aiokafka's batches.

        Raises:
            CommandNotSent: not acknowledged in time, or refused.
        """
        async with self._producing() as producer:
            future = await producer.send(
                self._topic,
                record.value,
                key=record.key,
                partition=record.partition,
                timestamp_ms=record.timestamp,
                headers=record.headers,
            )
            position = await future
        return Sent(record.identity.command_id, record.partition, position.offset)

    async def many(self, records: Sequence[CommandRecord]) -> int:
        """Deliver records in pre-built batches; their order is kept on each partition.

        Concurrent calls keep their order too: the next one starts when this one has handed
        over its batches, while the acknowledgements are still on the way.

        Returns:
            How many were delivered: all of them.

        Raises:
            CommandNotSent: as `one`; others of these records may have arrived.
        """
        async with self._producing() as producer:
            async with self._enqueuing:
                acknowledgements = await self._enqueue(producer, records)
            await asyncio.gather(*acknowledgements)
        return len(records)

    async def close(self) -> None:
        """Stop the producer, within a bound."""
        if self._producer is not None:
            await self._discard(self._producer)

    async def _enqueue(
        self, producer: AIOKafkaProducer, records: Sequence[CommandRecord]
    ) -> list[Awaitable[Any]]:
        acknowledgements: list[Awaitable[Any]] = []
        by_partition: dict[int, deque[CommandRecord]] = {}
        for record in records:
            by_partition.setdefault(record.partition, deque()).append(record)
        # A batch of each partition in turn: one request of aiokafka carries them all.
        while by_partition:
            for partition, waiting in list(by_partition.items()):
                batch = _fill(producer, waiting)
                acknowledgements.append(
                    await producer.send_batch(batch, self._topic, partition=partition)
                )
                if not waiting:
                    del by_partition[partition]
        return acknowledgements

    @asynccontextmanager
    async def _producing(self, seconds_max: float | None = None) -> AsyncIterator[AIOKafkaProducer]:
        producer = await self._live_producer()
        try:
            async with asyncio.timeout(seconds_max or self._seconds_max):
                yield producer
        except (KafkaError, OSError, TimeoutError) as error:
            await self._discard(producer)
            raise CommandNotSent(f"Kafka did not acknowledge: {_reason(error)}.") from error

    async def _live_producer(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                self._producer = await self._start()
            return self._producer

    async def _start(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._kafka,
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES_MAX,
            max_request_size=COMMAND_MESSAGE_BYTES_MAX,
        )
        try:
            async with asyncio.timeout(_START_SECONDS_MAX):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await _stop(producer)
            raise CommandNotSent(f"Kafka cannot be reached: {_reason(error)}.") from error
        return producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        await _stop(producer)


def _fill(producer: AIOKafkaProducer, waiting: deque[CommandRecord]) -> Any:
    batch = producer.create_batch()
    while waiting:
        record = waiting[0]
        added = batch.append(
            timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers
        )
        if added is None:
            break
        waiting.popleft()
    batch.close()
    return batch


async def _stop(producer: AIOKafkaProducer) -> None:
    if error := await stop_or_cut(producer, within=_STOP_WITHIN):
        log.warning("producer abandoned", action="producer_abandoned", error=repr(error))


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
