"""Everything committed on one topic, read from its beginning, and on where the last look ended."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from tests.conftest import PARTITIONS_TOTAL

READ_SECONDS_MAX = 30.0


class Log:
    """The records of each partition, in order."""

    def __init__(self, kafka: Mapping[str, Any], topic: str) -> None:
        self.records: list[list[ConsumerRecord]] = [[] for _ in range(PARTITIONS_TOTAL)]
        self._partitions = [TopicPartition(topic, lane) for lane in range(PARTITIONS_TOTAL)]
        self._kafka = kafka

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **self._kafka,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )
        await self._consumer.start()
        self._consumer.assign(self._partitions)

    async def stop(self) -> None:
        await self._consumer.stop()

    @property
    def total(self) -> int:
        return sum(map(len, self.records))

    async def held(self) -> bool:
        """Is a transaction open on any of them, so that a reader waits before the end?"""
        reader = AIOKafkaConsumer(**self._kafka, group_id=None, isolation_level="read_uncommitted")
        await reader.start()
        try:
            ends = await reader.end_offsets(self._partitions)
        finally:
            await reader.stop()
        return await self.stable_ends() != [int(ends[partition]) for partition in self._partitions]

    async def stable_ends(self) -> list[int]:
        """Of each partition, the offset behind the last record that a reader may see."""
        ends = await self._consumer.end_offsets(self._partitions)
        return [int(ends[partition]) for partition in self._partitions]

    async def read_on(self) -> None:
        """Up to the stable ends of this moment."""
        async with asyncio.timeout(READ_SECONDS_MAX):
            ends = await self.stable_ends()
            for partition, end in zip(self._partitions, ends, strict=True):
                while await self._consumer.position(partition) < end:
                    for polled in (await self._consumer.getmany(timeout_ms=100)).values():
                        for record in polled:
                            self.records[record.partition].append(record)
