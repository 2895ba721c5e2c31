"""The publisher of one lane: journal rows out, each exactly once, in order, in Kafka transactions.

The invariant: a transaction is committed only if every send in it succeeded, and only if its
first result follows the last one published. Whatever goes wrong, the producer is thrown away and
everything is found out again: whose lane it is (PostgreSQL), what was published (the tail of
results), what follows (the journal).
"""

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer

from contract.events import EventBuilder, OutputRecord
from contract.journal import JournalRow
from contract.lanes import Hook, LaneHalted, LaneLost, Published
from contract.spans import OpenSpan, Span
from contract.topics import OUTPUT_MESSAGE_BYTES_MAX, Topics
from domain.limits import (
    BACKLOG_BATCHES_MAX,
    BATCH_BYTES_MAX,
    JOURNAL_READ_ROWS_MAX,
    OUTPUT_BATCH_BYTES_MAX,
    ROWS_BUILT_AT_ONCE,
)
from producer.journal import JournalAway, JournalReader
from producer.stopping import stop_clients
from producer.tail import KAFKA_AWAY
from producer.takeover import STEP_WITHIN, PublishFailed, Takeover

TRANSACTION_TIMEOUT = timedelta(seconds=10)
_LOOK_EVERY = timedelta(seconds=5)
"""How long the notice of a repair may wait on an idle lane: one index probe each time."""
_STOP_WITHIN = timedelta(seconds=2)
_RETRY_FIRST, _RETRY_MAX = timedelta(milliseconds=50), timedelta(seconds=2)

log = structlog.get_logger("producer")


class _Sent(NamedTuple):
    """A record batch on its way."""

    topic: str
    records_total: int
    acknowledged: Awaitable[Any]


class Publisher:
    """Owns the transactional producer of one lane for one epoch."""

    def __init__(
        self,
        *,
        lane: int,
        owner_epoch: int,
        topics: Topics,
        builder: EventBuilder,
        kafka: Mapping[str, Any],
        journal: JournalReader,
        hook: Hook,
        open_span: OpenSpan,
    ) -> None:
        self._lane = lane
        self._owner_epoch = owner_epoch
        self._topics = topics
        self._builder = builder
        self._kafka = kafka
        self._journal = journal
        self._hook = hook
        self._open_span = open_span
        self._takeover = Takeover(lane=lane, topics=topics, kafka=kafka, journal=journal)
        self._producer: AIOKafkaProducer | None = None
        self._waiting: asyncio.Queue[list[JournalRow]] = asyncio.Queue(BACKLOG_BATCHES_MAX)
        self._recovered = asyncio.Event()
        self._moved = asyncio.Event()
        self._away = False
        self.published = Published(0, 0)

    @property
    def takes(self) -> bool:
        """Would `offer` return at once?"""
        return not self._waiting.full()

    @property
    def away(self) -> bool:
        """Does it wait for Kafka or PostgreSQL?"""
        return self._away

    async def offer(self, rows: list[JournalRow]) -> None:
        """Hand over what a lane transaction made true; waits while too much is unpublished."""
        await self._waiting.put(rows)
        await asyncio.sleep(0)  # a publisher that waits takes them now, and there is room again

    async def recovered(self) -> None:
        """Returns once the takeover is complete: fenced, tail read, nothing left behind."""
        await self._recovered.wait()

    async def published_up_to(self, result_sequence: int) -> None:
        """Returns once this result is published, from memory or from the journal."""
        while self.published.result_sequence < result_sequence:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Publish until cancelled.

        Raises:
            LaneLost: another owner has the lane.
            LaneHalted: the output and the journal contradict each other.
        """
        retry = _RETRY_FIRST
        try:
            while True:
                try:
                    await self._recover()
                    self._note_away(None)
                    retry = _RETRY_FIRST
                    await self._follow()
                except (PublishFailed, JournalAway) as error:
                    self._note_away(error)
                    await self._discard()
                    await asyncio.sleep(retry.total_seconds())
                    retry = min(retry * 2, _RETRY_MAX)
        finally:
            await self._discard()

    async def _follow(self) -> None:
        """Steady state: publish from memory what is offered, several batches at once."""
        while True:
            batches = [offered] if (offered := await self._offered()) else []
            while not self._waiting.empty():
                batches.append(self._waiting.get_nowait())
            ends = [self.published.result_sequence, *(b[-1].result_sequence for b in batches)]
            if not batches:
                await self._catch_up()
            elif all(
                b[0].result_sequence == end + 1 for b, end in zip(batches, ends, strict=False)
            ):
                await self._publish([row for batch in batches for row in batch])
            elif ends[-1] > self.published.result_sequence:
                await self._catch_up()

    async def _offered(self) -> list[JournalRow] | None:
        """What is offered next; None when nothing was for a while, and somebody else may have
        added rows to the lane: a repair."""
        try:
            async with asyncio.timeout(_LOOK_EVERY.total_seconds()):
                return await self._waiting.get()
        except TimeoutError:
            return None

    async def _recover(self) -> None:
        """Fence the former owner, find out what it published, publish what follows."""
        await self._demand_ownership()
        self._hook("before_fence")
        self._producer = await self._fenced_producer()
        self._hook("after_fence")
        # Again: whoever took the lane before our init has been fenced by it and must win.
        await self._demand_ownership()
        await self._takeover.end_forgotten(self._producer)
        tail = await self._takeover.tail()
        self._hook("after_tail")
        self.published = await self._takeover.last_published(tail)
        await self._catch_up()
        self._recovered.set()
        self._moved.set()

    async def _demand_ownership(self) -> None:
        progress = await self._journal.lane(self._lane)
        if progress.owner_epoch != self._owner_epoch:
            raise LaneLost(self._lane)

    async def _fenced_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._kafka,
            transactional_id=self._topics.transactional_id(self._lane),
            transaction_timeout_ms=int(TRANSACTION_TIMEOUT.total_seconds() * 1000),
            max_batch_size=OUTPUT_BATCH_BYTES_MAX,
            max_request_size=OUTPUT_MESSAGE_BYTES_MAX,
            request_timeout_ms=int(TRANSACTION_TIMEOUT.total_seconds() * 1000),
            linger_ms=0,
        )
        try:
            async with asyncio.timeout(STEP_WITHIN.total_seconds()):
                await producer.start()
        except KAFKA_AWAY as error:
            await stop_clients(producer, within=_STOP_WITHIN)
            raise PublishFailed(type(error).__name__) from error
        except BaseException:
            await stop_clients(producer, within=_STOP_WITHIN)
            raise
        return producer

    async def _catch_up(self) -> None:
        """Publish from the journal whatever follows the last published result."""
        while True:
            rows = await self._journal.after(
                self._lane, self.published.result_sequence, JOURNAL_READ_ROWS_MAX
            )
            if not rows:
                return
            if not _follow_on(self.published.result_sequence, rows):
                raise LaneHalted(
                    self._lane,
                    f"the journal has a hole behind result {self.published.result_sequence}",
                    "Run funnel verify; rows were removed before they were published",
                )
            for part in _bounded(rows):
                await self._publish(part)

    async def _publish(self, rows: Sequence[JournalRow]) -> None:
        """One Kafka transaction with everything of these rows, or nothing of them."""
        producer = self._producer
        if producer is None:
            raise PublishFailed("no producer")
        self._hook("before_publish")
        try:
            with self._span(rows):
                async with asyncio.timeout(STEP_WITHIN.total_seconds()):
                    await producer.begin_transaction()
                    end = await self._send(producer, rows)
                    self._hook("after_sends")
                    await producer.commit_transaction()
        except KAFKA_AWAY as error:
            raise PublishFailed(type(error).__name__) from error
        self._hook("after_publish")
        # The commit marker takes one more offset.
        self.published = Published(rows[-1].result_sequence, end + 1)
        self._moved.set()

    def _span(self, rows: Sequence[JournalRow]) -> AbstractContextManager[Span]:
        return self._open_span(
            f"publish {self._topics.results}",
            "producer",
            {
                "messaging.system": "kafka",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": self._topics.results,
                "messaging.destination.partition.id": str(self._lane),
                "gulf_funnel.journal_rows": len(rows),
            },
            links=(row.traceparent for row in rows),
        )

    async def _send(self, producer: AIOKafkaProducer, rows: Sequence[JournalRow]) -> int:
        """Every record of the rows, acknowledged; the end of results behind them.

        aiokafka commits a transaction of which half the sends failed, so each is looked at.
        """
        open_batches: dict[tuple[str, int], Any] = {}
        sent: list[_Sent] = []
        for number, row in enumerate(rows, 1):
            if number % ROWS_BUILT_AT_ONCE == 0:
                await asyncio.sleep(0)  # the lane's own work goes on meanwhile
            for record in self._builder.records(row):
                at = record.topic, record.partition
                batch = open_batches.get(at)
                if batch is None or _append(batch, record) is None:
                    if batch is not None:
                        sent.append(await _send_batch(producer, at, batch))
                    batch = open_batches[at] = producer.create_batch()
                    _append(batch, record)
        for at, batch in open_batches.items():
            sent.append(await _send_batch(producer, at, batch))
        await asyncio.gather(*(each.acknowledged for each in sent))
        last = [each for each in sent if each.topic == self._topics.results][-1]
        return int((await last.acknowledged).offset) + last.records_total

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_clients(producer, within=_STOP_WITHIN)

    def _note_away(self, error: Exception | None) -> None:
        """One line for each change of state."""
        if error is not None and not self._away:
            log.warning(
                "publisher paused", action="publisher_paused", lane=self._lane, error=str(error)
            )
        elif error is None and self._away:
            log.warning("publisher goes on", action="publisher_resumed", lane=self._lane)
        self._away = error is not None


def _follow_on(result_sequence: int, rows: Sequence[JournalRow]) -> bool:
    """Are these whole units, the first of them right behind a result, and none missing?"""
    units = [result_sequence, *dict.fromkeys(row.result_sequence for row in rows)]
    return (
        all(after == before + 1 for before, after in pairwise(units))
        and all(b.journal_sequence == a.journal_sequence + 1 for a, b in pairwise(rows))
        and rows[-1].kind != "item"
    )


def _bounded(rows: Sequence[JournalRow]) -> Iterator[list[JournalRow]]:
    """The rows in parts that a Kafka transaction carries before it times out, units whole."""
    part: list[JournalRow] = []
    part_bytes = 0
    for _, grouped in groupby(rows, key=lambda row: row.result_sequence):
        unit = list(grouped)
        unit_bytes = sum(len(row.change or b"") + len(row.forward or b"") for row in unit)
        if part and part_bytes + unit_bytes > BATCH_BYTES_MAX:
            yield part
            part, part_bytes = [], 0
        part += unit
        part_bytes += unit_bytes
    if part:
        yield part


async def _send_batch(producer: AIOKafkaProducer, at: tuple[str, int], batch: Any) -> _Sent:
    topic, partition = at
    acknowledged = await producer.send_batch(batch, topic, partition=partition)
    return _Sent(topic, batch.record_count(), acknowledged)


def _append(batch: Any, record: OutputRecord) -> Any:
    return batch.append(
        timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers
    )
