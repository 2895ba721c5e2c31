"""`funnel republish`: events of a range of the journal, again, byte for byte, to another topic.

Each partition is written in Kafka transactions of whole pages, so its last record tells how far an
interrupted run has got: going on neither repeats an event nor leaves one out. The four topics of
the deployment itself are refused, always.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from audit.database import open_audit
from audit.output_log import answered, demand_topics, reading
from audit.outputs import Output
from audit.ranges import Range, Span, pages, spans_of
from audit.sequences import read_lanes
from audit.sqlfiles import statement
from audit.stopping import stop_client
from contract.events import EventBuilder, OutputRecord
from contract.journal import JournalRow
from contract.record import SourceRecord, pack
from contract.topics import OUTPUT_CONFIG, OUTPUT_MESSAGE_BYTES_MAX

TRANSACTION_ROWS = 500
"""Some 2 MB: at the slowest `rate` worth its name sent well before the transaction times out."""

_TRANSACTION_SECONDS_MAX = 60
_TAIL_RECORDS = 50
_CREATED_POLL_SECONDS = 0.05
_STOP_SECONDS_MAX = 5.0
_GONE = pack(SourceRecord(None, None, (), 0))
_ROW_OF_CHANGE = statement("row_of_change")
_ROW_OF_RESULT = statement("row_of_result")

Report = Callable[[int, int], None]
"""Called with how many results are done, and of how many."""


class RepublishRefused(Exception):
    """The topic is one of the deployment's own, or holds something already."""


async def republish(
    database_url: str,
    output: Output,
    asked: Range,
    topic: str,
    *,
    of: frozenset[str],
    report: Report,
    rate: float | None = None,
    create: bool = False,
    resume: bool = False,
) -> int:
    """Write the events of a range to `topic`, those of lane p to partition p; tells how many.

    Args:
        of: the topics whose events are wanted: results, changes, or both.
        rate: events a second, at most.
        create: make the topic if it is not there.
        resume: go on behind the last event that the topic has.

    Raises:
        RepublishRefused: see there.
        TopicMissing: it is not there, or has another number of partitions than there are lanes.
        AuditRefused, RangeRefused, OSError, KafkaError: a server does not answer, or refuses.
    """
    if topic in {spec.name for spec in output.topics.specs()}:
        raise RepublishRefused(f"{topic} is written by the service alone: name another topic.")
    async with open_audit(database_url, name="funnel republish", walking=True) as connection:
        lanes_total = len(await read_lanes(connection))
        if create:
            await _create(output.kafka, topic, partitions_total=lanes_total)
        await demand_topics(output.kafka, [topic], partitions_total=lanes_total)
        spans = await spans_of(connection, asked)
        work = _Work(connection, output, asked, topic, of, _Pace(rate))
        done, total = 0, sum(max(0, span.last - span.first + 1) for span in spans)
        events = 0
        for span in spans:
            after = await _reached(connection, output, topic, span.lane)
            if after is not None and not resume:
                raise RepublishRefused(
                    f"{topic}/{span.lane} holds events already: --resume goes on behind them, "
                    "or name an empty topic."
                )
            async for sent, result in work.lane(span, after):
                events += sent
                report(done + result - span.first + 1, total)
            done += max(0, span.last - span.first + 1)
        report(total, total)
        return events


class _Work(NamedTuple):
    """What all lanes of a run share."""

    connection: asyncpg.Connection
    output: Output
    asked: Range
    topic: str
    of: frozenset[str]
    pace: "_Pace"

    async def lane(
        self, span: Span, after: tuple[int, int] | None
    ) -> AsyncIterator[tuple[int, int]]:
        """Of each transaction: how many events it had, and the result it ends with."""
        kafka = self.output.kafka
        builder = EventBuilder(self.output.topics, self.output.event_source)
        start = None if after is None else max(after, (span.first - 1, 2**62))
        async with _producer(kafka, f"{self.topic}.republish.{span.lane}") as producer:
            async for rows in pages(self.connection, self.asked, span, after=start):
                for first in range(0, len(rows), TRANSACTION_ROWS):
                    part = rows[first : first + TRANSACTION_ROWS]
                    records = [
                        [each for each in builder.records(_readable(row)) if each.topic in self.of]
                        for row in part
                    ]
                    for few in self.pace.portions(records):
                        await _send(producer, self.topic, span.lane, few)
                        await self.pace.sent(len(few))
                    yield sum(map(len, records)), part[-1].result_sequence


def _readable(row: JournalRow) -> JournalRow:
    """Of old dead letters the bytes are gone; their notice does not depend on them."""
    if row.kind == "dead_letter" and row.forward is None:
        return row._replace(forward=_GONE)
    return row


async def _send(
    producer: AIOKafkaProducer, topic: str, partition: int, records: list[OutputRecord]
) -> None:
    """All of them in one transaction, each acknowledged before it is committed."""
    if not records:
        return
    async with answered(_TRANSACTION_SECONDS_MAX):
        await producer.begin_transaction()
        sent = [
            await producer.send(
                topic, each.value, key=each.key, partition=partition,
                timestamp_ms=each.timestamp, headers=each.headers,
            )
            for each in records
        ]  # fmt: skip
        await asyncio.gather(*sent)
        await producer.commit_transaction()


async def _reached(
    connection: asyncpg.Connection, output: Output, topic: str, lane: int
) -> tuple[int, int] | None:
    """The journal row whose event is the last of a partition; None if that is empty.

    No transaction ends between the events of one row, so that row is done.
    """
    last = await _last_record(output.kafka, TopicPartition(topic, lane))
    if last is None:
        return None
    headers = dict(last.headers)
    event = (headers.get("ce_id") or b"").decode("utf-8", "replace")
    of, _, sequence = event.rpartition("/")
    names = output.topics
    if of == f"{names.results}/{lane}" and sequence.isdigit():
        row = await connection.fetchrow(_ROW_OF_RESULT, lane, int(sequence))
    elif of == f"{names.changes}/{lane}" and sequence.isdigit():
        organization_id, _, candidate_id = (last.key or b"").decode().partition("/")
        row = await connection.fetchrow(
            _ROW_OF_CHANGE, organization_id, candidate_id, lane, int(sequence)
        )
    else:
        row = None
    if row is None:
        raise RepublishRefused(f"{topic}/{lane} ends with a record that is no event of ours.")
    return row["result_sequence"], row["journal_sequence"]


async def _last_record(kafka: Mapping[str, Any], at: TopicPartition) -> Any:
    """The last committed record; markers of transactions may lie behind it."""
    async with reading(kafka, "read_committed") as consumer:
        consumer.assign([at])
        async with answered():
            first = int((await consumer.beginning_offsets([at]))[at])
            end = int((await consumer.end_offsets([at]))[at])
        back = _TAIL_RECORDS
        while first < end:
            start = max(first, end - back)
            consumer.seek(at, start)
            last = None
            while await consumer.position(at) < end:
                async with answered():
                    polled = await consumer.getmany(at, timeout_ms=1000)
                last = (polled.get(at) or [last])[-1]
            if last is not None or start == first:
                return last
            back *= 10
    return None


@asynccontextmanager
async def _producer(
    kafka: Mapping[str, Any], transactional_id: str
) -> AsyncIterator[AIOKafkaProducer]:
    """Fences whoever else republishes there."""
    producer = AIOKafkaProducer(
        **kafka,
        transactional_id=transactional_id,
        transaction_timeout_ms=_TRANSACTION_SECONDS_MAX * 1000,
        max_request_size=OUTPUT_MESSAGE_BYTES_MAX,
    )
    async with answered():
        await producer.start()
    try:
        yield producer
    finally:
        await stop_client(producer, seconds_max=_STOP_SECONDS_MAX)


async def _create(kafka: Mapping[str, Any], topic: str, *, partitions_total: int) -> None:
    """Unless it is there; returns once each partition has a leader, which takes a moment."""
    admin = AIOKafkaAdminClient(**kafka)
    try:
        async with answered():
            await admin.start()
            if await _leaders(admin, topic):
                return
            brokers = len((await admin.describe_cluster())["brokers"])
            answer = await admin.create_topics(
                [NewTopic(topic, partitions_total, min(3, brokers), topic_configs=OUTPUT_CONFIG)]
            )
            for name, code, message in answer.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(f"{name} cannot be created: {message}")
            while min(await _leaders(admin, topic), default=-1) < 0:  # noqa: ASYNC110  Kafka is asked
                await asyncio.sleep(_CREATED_POLL_SECONDS)
    finally:
        await admin.close()


async def _leaders(admin: AIOKafkaAdminClient, topic: str) -> list[int]:
    """The leader of each partition, -1 where there is none. Asks for all: as `demand_topics`."""
    return [
        partition["leader"]
        for each in await admin.describe_topics(None)
        if each["topic"] == topic
        for partition in each["partitions"]
    ]


class _Pace:
    """Keeps to so many events a second, by small portions that are each followed by a pause."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = time.monotonic()

    def portions(self, rows: list[list[OutputRecord]]) -> Iterator[list[OutputRecord]]:
        """The events of rows in parts of at most a second; those of a row stay together."""
        portion: list[OutputRecord] = []
        for records in rows:
            portion += records
            if self._rate is not None and len(portion) >= self._rate:
                yield portion
                portion = []
        yield portion

    async def sent(self, records_total: int) -> None:
        """Wait until the next portion is due."""
        if self._rate is None:
            return
        self._due = max(self._due, time.monotonic() - 1) + records_total / self._rate
        await asyncio.sleep(max(0.0, self._due - time.monotonic()))
