"""The commands as they were received, read again from the commands topic, as far as it has them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from audit.output_log import answered, reading
from contract.journal import JournalRow
from contract.record import pack

RECEIVED = ("command", "reroute", "dead_letter")
"""The kinds of journal rows that a record of the commands topic is behind."""


class CommandRecords:
    """Packed records by lane and offset; quick where the offsets that are asked for rise."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._at: TopicPartition | None = None

    async def of(self, rows: list[JournalRow]) -> dict[int, bytes]:
        """The record behind each of these rows of one lane, by its offset.

        Raises:
            OutputAway, KafkaError: Kafka does not answer.
        """
        wanted = {row.source_offset for row in rows if row.kind in RECEIVED}
        if not wanted:
            return {}
        at = TopicPartition(self._topic, rows[0].lane)
        if at != self._at:
            self._consumer.assign([at])
            self._at = at
        async with answered():
            first = int((await self._consumer.beginning_offsets([at]))[at])
            end = min(int((await self._consumer.end_offsets([at]))[at]), max(wanted) + 1)
        start = max(first, min(wanted))
        found: dict[int, bytes] = {}
        if start >= end:
            return found
        self._consumer.seek(at, start)
        while await self._consumer.position(at) < end and len(found) < len(wanted):
            async with answered():
                polled = await self._consumer.getmany(at, timeout_ms=1000, max_records=500)
            for record in polled.get(at, ()):
                if record.offset in wanted:
                    found[record.offset] = pack(record)
        return found


@asynccontextmanager
async def command_records(kafka: Mapping[str, Any], topic: str) -> AsyncIterator[CommandRecords]:
    """Reads `topic`, the commands topic."""
    async with reading(kafka, "read_committed") as consumer:
        yield CommandRecords(consumer, topic)
