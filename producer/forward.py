"""Puts records back into the commands topic as they were: nulls, repeated headers, raw bytes.

For redrives. Each is acknowledged before the next; compressed, as one that was too large came so.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contract.record import SourceRecord, writable_headers
from domain.limits import BATCH_UNPACKED_BYTES_MAX
from producer.command_errors import CommandNotSent
from producer.stopping import stop_or_cut

_ANSWER_SECONDS_MAX = 15.0
_START_SECONDS_MAX = 10.0
_STOP_WITHIN = timedelta(seconds=2)


class Forwarder:
    """A way to one topic that connects with the first record, and anew after a failure."""

    def __init__(self, *, kafka: Mapping[str, Any], topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Forwarder"]:
        """Usable inside; the connection is closed at the end, within a bound."""
        try:
            yield self
        finally:
            await self._discard()

    async def send(self, lane: int, record: SourceRecord) -> int:
        """The offset of the record on that partition; its timestamp is now.

        Raises:
            CommandNotSent: not acknowledged in time, or refused; it may have arrived.
        """
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                    producer = await self._connected()
                    batch = producer.create_batch()
                    batch.append(
                        timestamp=None, key=record.key, value=record.value,
                        headers=writable_headers(record.headers),
                    )  # fmt: skip
                    batch.close()
                    acknowledged = await producer.send_batch(batch, self._topic, partition=lane)
                    return int((await acknowledged).offset)
            except (KafkaError, OSError, TimeoutError) as error:
                await self._discard()
                raise CommandNotSent(
                    f"Kafka did not acknowledge: {type(error).__name__}."
                ) from error

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._kafka,
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                linger_ms=0,
                max_request_size=BATCH_UNPACKED_BYTES_MAX,
            )
            try:
                async with asyncio.timeout(_START_SECONDS_MAX):
                    await producer.start()
            except BaseException:
                await stop_or_cut(producer, within=_STOP_WITHIN)
                raise
            self._producer = producer
        return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_or_cut(producer, within=_STOP_WITHIN)
