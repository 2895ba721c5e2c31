"""What the new owner of a lane finds out, and puts in order, before it publishes.

Its producer is initialized: the former owner is fenced, and its last transaction is decided. What
was published is what can be read; the journal says whether that can be true.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition

from contract.journal import timestamp_text
from contract.lanes import LaneHalted, Published
from contract.topics import Topics
from producer.journal import JournalReader
from producer.tail import KAFKA_AWAY, Tail, TailMissing, TailUnreadable, read_tail, unsettled

STEP_WITHIN = timedelta(seconds=15)
"""Deadline of a step with Kafka: longer than a transaction may hang, so that init can abort it."""

log = structlog.get_logger("producer")


class PublishFailed(Exception):
    """Kafka refused or did not answer: nothing of this transaction counts as published."""


class Takeover:
    """The output of one lane, as its new owner finds it."""

    def __init__(
        self, *, lane: int, topics: Topics, kafka: Mapping[str, Any], journal: JournalReader
    ) -> None:
        self._lane = lane
        self._topics = topics
        self._kafka = kafka
        self._journal = journal

    async def end_forgotten(self, producer: AIOKafkaProducer) -> None:
        """End what the former owner left open and Kafka will not end any more.

        A coordinator that knows no leader of a partition takes it for deleted and writes no
        marker there (KAFKA-20734): it would stay open for ever. What ends a transaction of this
        producer ends that one as well.
        """
        results, changes = self._topics.results, self._topics.changes
        numbered = [(results, self._lane), (changes, self._lane)]
        async with self._step():
            if not await unsettled(self._kafka, numbered):
                return
            commit = await self._half_committed(
                await read_tail(self._kafka, results, self._lane, settled=False),
                await read_tail(self._kafka, changes, self._lane, settled=False),
            )
            lanes = await producer.partitions_for(self._topics.commands)
            forwards = [(self._topics.commands, lane) for lane in lanes]
            dead_letters = (self._topics.dead_letters, self._lane)
            forgotten = await unsettled(self._kafka, [*numbered, dead_letters, *forwards])
            await _end_transaction_on(producer, forgotten, commit=commit)
        log.warning(
            "a transaction that Kafka had forgotten is ended",
            action="publisher_ended_forgotten",
            lane=self._lane,
            partitions=len(forgotten),
            committed=commit,
        )

    async def tail(self) -> Tail:
        """The last result. Raises PublishFailed, LaneHalted."""
        async with self._step():
            return await read_tail(self._kafka, self._topics.results, self._lane)

    async def last_published(self, tail: Tail) -> Published:
        """How far the output of the lane has got.

        Raises:
            LaneHalted: output and journal contradict each other.
            JournalAway: PostgreSQL does not answer.
        """
        row = await self._journal.lane(self._lane)
        if tail.end_offset < row.published_end_offset:
            raise self._results_gone(
                f"ends at offset {tail.end_offset}, was at {row.published_end_offset}"
            )
        if tail.sequence is None and tail.first_offset > row.published_end_offset:
            raise LaneHalted(
                self._lane,
                f"{self._topics.results} was emptied behind what is known to be published",
                "Find out how far readers got, note it in lanes.published_result_sequence and"
                " published_end_offset; retention must be longer than an outage",
            )
        sequence = max(tail.sequence or 0, row.published_result_sequence)
        if sequence > row.result_sequence:
            raise LaneHalted(
                self._lane,
                f"the output ends at {sequence}, the journal at {row.result_sequence}",
                "PostgreSQL has lost commits, as after a restore: run `funnel recover`; delete"
                " nothing, the topics still have what is missing",
            )
        await self._demand_own(tail)
        return Published(sequence, tail.end_offset)

    async def _half_committed(self, results: Tail, changes: Tail) -> bool:
        """Was a transaction committed on one of them, and forgotten on the other?"""
        if _expired(results) or _expired(changes):
            return False
        told_of = await self._journal.last_change(self._lane, results.sequence or 0)
        return (changes.sequence or 0) != (told_of or 0)

    async def _demand_own(self, tail: Tail) -> None:
        """The last result there must be the one that this journal has under its number."""
        if tail.sequence is None:
            return
        recorded_at = await self._journal.recorded_at(self._lane, tail.sequence)
        if recorded_at is not None and timestamp_text(recorded_at) != tail.time:
            raise LaneHalted(
                self._lane,
                f"result {tail.sequence} on {self._topics.results} is not the journal's",
                "Another deployment writes there: give each its own FUNNEL_TOPIC_PREFIX. Or"
                " PostgreSQL was restored and has gone on since: restore it once more, then run"
                " `funnel recover` before any consumer",
            )

    def _results_gone(self, how: str) -> LaneHalted:
        return LaneHalted(
            self._lane,
            f"{self._topics.results} {how}",
            "The topic was deleted or lost records: restore it",
        )

    @asynccontextmanager
    async def _step(self) -> AsyncIterator[None]:
        """Asks Kafka, within a bound."""
        try:
            async with asyncio.timeout(STEP_WITHIN.total_seconds()):
                yield
        except TailMissing as error:
            raise self._results_gone("is not there") from error
        except TailUnreadable as error:
            raise LaneHalted(
                self._lane,
                str(error),
                "Only this service may write there: find the writer, remove its right to",
            ) from error
        except KAFKA_AWAY as error:
            raise PublishFailed(type(error).__name__) from error


def _expired(tail: Tail) -> bool:
    """There were records, and none is left that could tell anything."""
    return tail.sequence is None and tail.first_offset > 0


async def _end_transaction_on(
    producer: AIOKafkaProducer, partitions: Iterable[tuple[str, int]], *, commit: bool
) -> None:
    """A transaction with these partitions and no record."""
    await producer.begin_transaction()
    for each in partitions:
        # There is no other way to name a partition than to send to it.
        producer._txn_manager.maybe_add_partition_to_txn(TopicPartition(*each))  # noqa: SLF001
    await (producer.commit_transaction() if commit else producer.abort_transaction())
