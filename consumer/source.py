"""Source: the commands of one lane, read by the only aiokafka consumer of this room.

The position is ours: it is where the last poll ended, and a poll that raised or was cancelled
seeks back to it, because aiokafka would go on behind records that it never handed out.
"""

import asyncio
import struct
import zlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import cramjam
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    CorruptRecordException,
    KafkaError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)

from consumer.codecs import BatchTooLarge
from consumer.decode import KafkaRecord
from contract.lanes import LaneHalted, LaneRow
from contract.record import record_bytes, record_digest
from contract.topics import Topics
from domain.limits import BATCH_BYTES_MAX

FETCH_WAIT = timedelta(milliseconds=50)
_ANSWER_WITHIN = timedelta(seconds=10)
_STOP_WITHIN = timedelta(seconds=5)
_PROBE_WITHIN = timedelta(seconds=3)
_RECREATED = (
    "The commands topic was deleted and created again, or is another one. Restore it, or move"
    " the lanes to it with a decision about the commands that are lost"
)
_AWAY = (
    KafkaError,
    OSError,
    TimeoutError,
    AssertionError,  # aiokafka's, where a broker that is just back knows of no broker
)
# Whatever a broken or hostile record batch makes the decoders raise.
_UNREADABLE = (
    CorruptRecordException,
    UnsupportedCodecError,
    cramjam.DecompressionError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
)


class SourceAway(Exception):
    """Kafka does not answer, or not usefully; asking again later may help."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"Kafka does not answer ({type(error).__name__})")


class Source:
    """One partition of the commands topic, assigned by hand, read committed."""

    def __init__(
        self, *, lane: int, topics: Topics, kafka: Mapping[str, Any], records_max: int
    ) -> None:
        self._lane = lane
        self._partition = TopicPartition(topics.commands, lane)
        self._records_max = records_max
        self._consumer = AIOKafkaConsumer(
            **kafka,
            group_id=topics.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            check_crcs=True,
            fetch_max_wait_ms=int(FETCH_WAIT.total_seconds() * 1000),
            max_partition_fetch_bytes=1024 * 1024,
            request_timeout_ms=int(_ANSWER_WITHIN.total_seconds() * 1000),
            metadata_max_age_ms=10_000,
        )
        self.position = self._fetched_to = 0
        self._rest: Sequence[KafkaRecord] = []

    async def start(self, row: LaneRow) -> None:
        """Stand at the lane's next offset, once the topic proves to be the one it knows.

        Raises:
            SourceAway: Kafka does not answer.
            LaneHalted: another topic, another number of partitions, or records are gone.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
                await self._consumer.start()
                self._consumer.assign([self._partition])
                self._demand_partitions(row)
                first = await self._offset("beginning_offsets")
                end = await self._offset("end_offsets")
                self._demand_offset(row, first, end)
                if row.last_record_offset is not None and row.last_record_offset >= first:
                    await self._demand_same_record(row, row.last_record_offset)
                self._seek(row.next_offset)
        except _AWAY as error:
            raise SourceAway(error) from error

    async def poll(self, wait: timedelta) -> Sequence[KafkaRecord]:
        """What is there, bounded in records and bytes; after `wait` perhaps nothing.

        Raises:
            SourceAway: Kafka does not answer.
            LaneHalted: the offset is gone, or a record batch cannot be read.
        """
        if not self._rest:
            self._rest = await self._fetch(wait)
        batch_bytes = 0
        for count, record in enumerate(self._rest):
            batch_bytes += record_bytes(record)
            if count and batch_bytes > BATCH_BYTES_MAX:
                batch, self._rest = self._rest[:count], self._rest[count:]
                self.position = self._rest[0].offset
                return batch
        batch, self._rest, self.position = self._rest, [], self._fetched_to
        return batch

    async def _fetch(self, wait: timedelta) -> Sequence[KafkaRecord]:
        try:
            polled = await self._consumer.getmany(
                self._partition,
                timeout_ms=int(wait.total_seconds() * 1000),
                max_records=self._records_max,
            )
            self._fetched_to = await self._consumer.position(self._partition)
        except OffsetOutOfRangeError as error:
            self._seek(self.position)
            raise _records_gone(self._lane, self.position) from error
        except _UNREADABLE as error:
            self._seek(self.position)
            raise self._unreadable(error) from error
        except _AWAY as error:
            self._seek(self.position)
            raise SourceAway(error) from error
        except BaseException:
            self._seek(self.position)
            raise
        records: Sequence[KafkaRecord] = polled.get(self._partition, [])
        return records

    def seek(self, offset: int) -> None:
        """Stand somewhere else: what was polled behind `offset` is read again."""
        self._seek(offset)

    def partitions_total(self) -> int | None:
        """How many partitions the topic has by the newest metadata, None if not known."""
        partitions = self._consumer.partitions_for_topic(self._partition.topic)
        return len(partitions) if partitions else None

    async def lag(self) -> int:
        """Offsets up to the stable end; 0 also where only control records are left.

        Raises:
            SourceAway: Kafka does not answer.
        """
        try:
            async with asyncio.timeout(_PROBE_WITHIN.total_seconds()):
                return max(0, await self._offset("end_offsets") - self.position)
        except _AWAY as error:
            raise SourceAway(error) from error

    def held_at(self) -> int | None:
        """The stable end, if all before it is read and records stand behind it.

        A transaction of another client is open there. As of the last fetch, without asking.
        """
        stable = self._consumer.last_stable_offset(self._partition)
        high = self._consumer.highwater(self._partition)
        if stable is None or high is None or not self.position >= stable < high:
            return None
        return int(stable)

    def lag_seen(self) -> int:
        """The lag as of the last fetch, without asking."""
        stable = self._consumer.last_stable_offset(self._partition)
        return max(0, (stable or 0) - self.position)

    async def commit_offset(self, offset: int) -> None:
        """Tell lag tools. Nothing of ours reads it; the lane row is the truth.

        Raises:
            SourceAway: Kafka does not answer.
        """
        try:
            async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
                await self._consumer.commit({self._partition: offset})
        except _AWAY as error:
            raise SourceAway(error) from error

    async def stop(self) -> None:
        """Leave, within a bound.

        In a task of its own: aiokafka passes on the cancellation of its own tasks, which would
        end ours; and cut short, it would never close its connections.
        """
        stopping = asyncio.create_task(self._consumer.stop())
        stopping.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait({stopping}, timeout=_STOP_WITHIN.total_seconds())

    def _unreadable(self, error: Exception) -> LaneHalted:
        if isinstance(error, BatchTooLarge):
            return LaneHalted(
                self._lane,
                f"at or behind offset {self.position} stands {error}",
                "Find out who sent it; to go on without it, stop the consumers, set"
                " lanes.next_offset behind it and lanes.last_record_offset to null",
            )
        return LaneHalted(
            self._lane,
            f"the record batch at or behind offset {self.position} cannot be read"
            f" ({type(error).__name__})",
            "Repair the partition on the broker, then the lane goes on by itself",
        )

    def _seek(self, offset: int) -> None:
        self.position = self._fetched_to = offset
        self._rest = []
        self._consumer.seek(self._partition, offset)

    async def _offset(self, ask: str) -> int:
        offsets = await getattr(self._consumer, ask)([self._partition])
        return int(offsets[self._partition])

    def _demand_partitions(self, row: LaneRow) -> None:
        total = self.partitions_total()
        if total is not None and total != row.partitions_total:
            raise partitions_changed(row, total)

    def _demand_offset(self, row: LaneRow, first: int, end: int) -> None:
        if row.next_offset > end:
            raise LaneHalted(
                self._lane,
                f"the next offset is {row.next_offset}, the topic ends at {end}",
                _RECREATED,
            )
        if row.next_offset < first:
            raise _records_gone(self._lane, row.next_offset)

    async def _demand_same_record(self, row: LaneRow, offset: int) -> None:
        """The record read last, at `offset`, must still be there, unchanged."""
        self._seek(offset)
        while True:
            try:
                polled = await self._consumer.getmany(
                    self._partition, timeout_ms=200, max_records=1
                )
            except _UNREADABLE as error:
                raise self._unreadable(error) from error
            found = polled.get(self._partition)
            if found:
                break
            if await self._consumer.position(self._partition) > offset:
                raise LaneHalted(self._lane, "the record read last is not there", _RECREATED)
        record = found[0]
        if (
            record.offset != offset
            or record.timestamp != row.last_record_timestamp
            or record_digest(record) != row.last_record_digest
        ):
            raise LaneHalted(self._lane, "the record read last is another one now", _RECREATED)


def partitions_changed(row: LaneRow, total: int) -> LaneHalted:
    """The topic has another number of partitions than the lanes remember."""
    return LaneHalted(
        row.lane,
        f"the commands topic has {total} partitions, the lanes were made for"
        f" {row.partitions_total}",
        "The number is fixed for the life of the topics: recreate the topic as it was",
    )


def _records_gone(lane: int, offset: int) -> LaneHalted:
    return LaneHalted(
        lane,
        f"the broker no longer has offset {offset}",
        "Commands expired before they were read: raise the topic's retention, find out from the"
        " senders what is missing, then move the lane on",
    )
