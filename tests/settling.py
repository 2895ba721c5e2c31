"""A stand-in for the service where only its answers matter: results as `contract.events` builds
them, written in Kafka transactions, one for each command record, on the same partition."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contract.envelope import Envelope, read_envelope
from contract.events import EventBuilder
from contract.journal import JournalRow
from contract.record import SourceRecord
from contract.topics import Topics

Verdict = Callable[[Envelope], dict[str, Any]]


def applied(_envelope: Envelope) -> dict[str, Any]:
    return {"outcome": "applied", "version": 1}


class Settler:
    """Settles what arrives from now on, by `verdict`, until the context ends."""

    def __init__(
        self, kafka: Mapping[str, Any], topics: Topics, verdict: Verdict = applied
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._verdict = verdict
        self._builder = EventBuilder(topics)
        self._sequences = {lane: count(1) for lane in range(4)}
        self.envelopes: list[Envelope] = []

    async def __aenter__(self) -> Self:
        self._consumer = await reader_of(self._kafka, self._topics.commands)
        self._producer = AIOKafkaProducer(
            **self._kafka, transactional_id=f"{self._topics.results}.settler"
        )
        await self._producer.start()
        self._settling = asyncio.create_task(self._settle())
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._settling.cancel()
        await asyncio.wait({self._settling})
        await self._producer.stop()
        await self._consumer.stop()
        if not self._settling.cancelled():
            self._settling.result()

    async def _settle(self) -> None:
        while True:
            polled = await self._consumer.getmany(timeout_ms=1000)
            rows = [self._row(record) for records in polled.values() for record in records]
            if rows:
                await write_rows(self._producer, self._builder, [row for row in rows if row])

    def _row(self, record: ConsumerRecord) -> JournalRow | None:
        source = SourceRecord(record.key, record.value, tuple(record.headers), record.timestamp)
        envelope = read_envelope(source)
        self.envelopes.append(envelope)
        verdict = self._verdict(envelope)
        if not verdict:
            return None
        return journal_row(
            envelope,
            lane=record.partition,
            sequence=next(self._sequences[record.partition]),
            **verdict,
        )


def journal_row(envelope: Envelope, *, lane: int, sequence: int, **verdict: Any) -> JournalRow:
    """The row of a command settled so."""
    fields: dict[str, Any] = dict.fromkeys(JournalRow._fields)
    fields |= {
        "recorded_at": datetime.now(UTC),
        "lane": lane,
        "journal_sequence": sequence,
        "result_sequence": sequence,
        "kind": "command",
        "source_offset": 0,
        "organization_id": envelope.data["organization_id"],
        "candidate_id": envelope.data.get("candidate_id"),
        "command_id": envelope.command_id,
        "command_source": envelope.source,
        "command_type": envelope.type,
        "traceparent": envelope.traceparent,
        "builder": 1,
    }
    if "details" in verdict:
        verdict["details"] = orjson.dumps(verdict["details"])
    return JournalRow(**fields | verdict)


async def write_rows(
    producer: AIOKafkaProducer, builder: EventBuilder, rows: Iterable[JournalRow]
) -> None:
    """Everything that the rows publish, in one transaction."""
    async with producer.transaction():
        for row in rows:
            for record in builder.records(row):
                await producer.send(
                    record.topic,
                    record.value,
                    key=record.key,
                    partition=record.partition,
                    timestamp_ms=record.timestamp,
                    headers=record.headers,
                )


async def reader_of(kafka: Mapping[str, Any], topic: str) -> AIOKafkaConsumer:
    """A consumer at the beginning of every partition."""
    consumer = AIOKafkaConsumer(
        **kafka, group_id=None, isolation_level="read_committed", fetch_max_wait_ms=50
    )
    await consumer.start()
    partitions = [TopicPartition(topic, partition) for partition in range(4)]
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    return consumer


async def read_all(kafka: Mapping[str, Any], topic: str, *, total: int) -> list[ConsumerRecord]:
    """The first `total` records of the topic, by partition and offset."""
    consumer = await reader_of(kafka, topic)
    records: list[ConsumerRecord] = []
    try:
        async with asyncio.timeout(20):
            while len(records) < total:
                for polled in (await consumer.getmany(timeout_ms=1000)).values():
                    records += polled
    finally:
        await consumer.stop()
    return sorted(records, key=lambda record: (record.partition, record.offset))
