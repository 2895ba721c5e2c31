"""Where events lie in Kafka: an event's instant leads near its place, its number to the record."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from audit.output_log import answered, reading

Place = tuple[str, int, int]
"""Topic, partition, sequence."""


class Event(NamedTuple):
    """One numbered event. `timestamp` in milliseconds, as its record carries it."""

    topic: str
    partition: int
    sequence: int
    event_id: str
    timestamp: int
    offset: int | None = None


async def find_offsets(kafka: Mapping[str, Any], events: Iterable[Event]) -> dict[Place, int]:
    """The offset of each event that its partition still has.

    Raises:
        OutputAway, KafkaError: Kafka does not answer.
    """
    found: dict[Place, int] = {}
    ordered = sorted(events, key=lambda event: event[:3])
    if not ordered:
        return found
    async with reading(kafka, "read_committed") as consumer:
        for (topic, partition), group in groupby(ordered, key=lambda event: event[:2]):
            at = TopicPartition(topic, partition)
            consumer.assign([at])
            for event in group:
                offset = await _offset(consumer, at, event)
                if offset is not None:
                    found[event[:3]] = offset
    return found


async def _offset(consumer: AIOKafkaConsumer, at: TopicPartition, event: Event) -> int | None:
    async with answered():
        first = (await consumer.offsets_for_times({at: event.timestamp})).get(at)
        end = int((await consumer.end_offsets([at]))[at])
    if first is None:
        return None
    consumer.seek(at, first.offset)
    while await consumer.position(at) < end:
        async with answered():
            polled = await consumer.getmany(at, timeout_ms=1000)
        for record in polled.get(at, ()):
            number = dict(record.headers).get("ce_sequence") or b""
            if number.isdigit() and int(number) >= event.sequence:
                return int(record.offset) if int(number) == event.sequence else None
    return None
