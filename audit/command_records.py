"""The commands as they were received, read again from the commands topic, as far as it has them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from audit.output_log import answered, reading
from contract.journal import JournalRow
from contract.record import pack

RECEIVED = ("command", "reroute", "dead_letter")
"""The kinds of journal rows that a record of the commands topic is behind."""

RECORDS_AT_ONCE = 500
"""Polled, and so at most kept beside what is asked for."""


class CommandRecords:
    """Packed records by lane and offset; quick where the offsets that are asked for rise.

    What is polled with them and stands behind them is kept for the next time: to seek costs a
    fetch, and a transaction of one command asks for one record.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._topic = topic
        self._at: TopicPartition | None = None
        self._first = self._end = 0  # of the partition, as it was asked last
        self._kept: dict[int, ConsumerRecord] = {}
        self._kept_from: int | None = None  # all from here to `_read_to` is kept, or is no record
        self._read_to = 0

    async def of(self, rows: list[JournalRow]) -> dict[int, bytes]:
        """The record behind each of these rows of one lane, by its offset.

        Raises:
            OutputAway, KafkaError: Kafka does not answer.
        """
        wanted = {row.source_offset for row in rows if row.kind in RECEIVED}
        if not wanted:
            return {}
        start, end = await self._there(rows[0].lane, min(wanted), max(wanted) + 1)
        if start >= end:
            return {}
        self._stand(start)
        found: dict[int, bytes] = {}
        while True:
            found |= {offset: pack(self._kept[offset]) for offset in wanted & self._kept.keys()}
            self._kept = {offset: each for offset, each in self._kept.items() if offset >= end}
            if self._read_to >= end:
                self._kept_from = end
                return found
            await self._read()

    async def _there(self, lane: int, start: int, end: int) -> tuple[int, int]:
        """As much of it as the lane's partition has."""
        at = TopicPartition(self._topic, lane)
        if at != self._at:
            self._consumer.assign([at])
            self._at, self._end, self._kept_from = at, 0, None
        if end > self._end:
            async with answered():
                self._first = int((await self._consumer.beginning_offsets([at]))[at])
                self._end = int((await self._consumer.end_offsets([at]))[at])
        return max(self._first, start), min(self._end, end)

    def _stand(self, start: int) -> None:
        """Read on from here; go there first, unless that is where it is read to anyway."""
        kept_from = self._kept_from
        if kept_from is None or not kept_from <= start <= self._read_to + RECORDS_AT_ONCE:
            self._consumer.seek(self._at, start)
            self._kept, self._read_to = {}, start
        self._kept_from = None  # until all that is asked for is read

    async def _read(self) -> None:
        at = self._at
        async with answered():
            polled = await self._consumer.getmany(at, timeout_ms=1000, max_records=RECORDS_AT_ONCE)
            self._read_to = await self._consumer.position(at)
        self._kept |= {record.offset: record for record in polled.get(at, ())}


@asynccontextmanager
async def command_records(kafka: Mapping[str, Any], topic: str) -> AsyncIterator[CommandRecords]:
    """Reads `topic`, the commands topic."""
    async with reading(kafka, "read_committed") as consumer:
        yield CommandRecords(consumer, topic)
