"""One deployment under test: its topics and its database, looked at from outside."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer

from contract.topics import Topics
from producer.outgoing import CommandRecord
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.log import Log

_DECIDED = """
SELECT lane, result_sequence,
       (SELECT count(*) FROM journal AS j
        WHERE j.lane = l.lane AND j.kind IN ('progress', 'completed')) AS news,
       EXISTS (SELECT FROM bulk_operations AS o WHERE o.lane = l.lane
               AND o.completed_at IS NULL AND o.status <> 'paused') AS works
FROM lanes AS l ORDER BY lane
"""
LOOK_EVERY_SECONDS = 0.05
SETTLED_WITHIN_SECONDS = 40.0


class World:
    """Sends commands, and knows what became of them."""

    def __init__(self, *, database_url: str, kafka: dict[str, Any], topics: Topics) -> None:
        self.database_url = database_url
        self.kafka = kafka
        self.topics = topics
        self.sent = 0
        self._open()

    def _open(self) -> None:
        self.commands = Log(self.kafka, self.topics.commands)
        self.results = Log(self.kafka, self.topics.results)
        self.changes = Log(self.kafka, self.topics.changes)
        self.dead_letters = Log(self.kafka, self.topics.dead_letters)

    async def start(self) -> None:
        for log in self.logs:
            await log.start()

    async def reopen(self) -> None:
        """Read all topics from their beginning again, as one of them is another one now."""
        await self.stop()
        self.sent = 0
        self._open()
        await self.start()

    async def stop(self) -> None:
        for log in self.logs:
            await log.stop()

    @property
    def logs(self) -> tuple[Log, Log, Log, Log]:
        return self.commands, self.results, self.changes, self.dead_letters

    async def send(self, records: Iterable[CommandRecord], **producer_options: Any) -> None:
        """All of them, in order within each partition, acknowledged."""
        producer = AIOKafkaProducer(
            **self.kafka, enable_idempotence=True, max_batch_size=128 * 1024, **producer_options
        )
        await producer.start()
        try:
            acknowledged = [await send_record(producer, self.topics, each) for each in records]
            await asyncio.gather(*acknowledged)
        finally:
            await producer.stop()
        self.sent += len(acknowledged)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """As superuser, so that a test can also break what no role of ours may touch."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            return await connection.fetch(query, *arguments, timeout=30)
        finally:
            await connection.close(timeout=5)

    async def value(self, query: str, *arguments: object) -> Any:
        rows = await self.fetch(query, *arguments)
        return rows[0][0] if rows else None

    async def holds(self, query: str) -> bool:
        """For `until`: what a query of one value says."""
        return bool(await self.value(query))

    async def until(
        self,
        holds: Callable[[], Awaitable[bool]],
        *,
        what: str,
        seconds: float = SETTLED_WITHIN_SECONDS,
    ) -> None:
        """Look again and again until it holds."""
        try:
            async with asyncio.timeout(seconds):
                while not await holds():  # noqa: ASYNC110 other processes make it hold
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
        except TimeoutError:
            lanes = await self.fetch("SELECT * FROM lanes ORDER BY lane")
            told = "\n".join(str(dict(lane)) for lane in lanes)
            raise AssertionError(
                f"not within {seconds} s: {what}; sent {self.sent}, commands"
                f" {self.commands.total}, results {self.results.total}\n{told}"
            ) from None

    async def shared(
        self, expected: dict[str, set[int]], *, seconds: float = SETTLED_WITHIN_SECONDS
    ) -> None:
        """Returns once every lane has an owner, and each consumer a number that is fair for it."""

        async def fair() -> bool:
            rows = await self.fetch("SELECT owner FROM lanes WHERE owner IS NOT NULL")
            owned = Counter(row["owner"] for row in rows)
            return owned.total() == PARTITIONS_TOTAL and all(
                owned[consumer] in numbers for consumer, numbers in expected.items()
            )

        await self.until(fair, what=f"lanes shared as {expected}", seconds=seconds)

    async def decided(self, total: int) -> None:
        """Returns once more than so many records are settled in PostgreSQL."""
        await self.until(
            lambda: self.holds(f"SELECT sum(result_sequence) > {total} FROM lanes"),
            what=f"{total} records settled",
        )

    async def settled(
        self,
        *,
        lanes: Collection[int] = range(PARTITIONS_TOTAL),
        seconds: float = SETTLED_WITHIN_SECONDS,
    ) -> None:
        """Every command record of these lanes has its result, and a reader sees it."""

        async def all_settled() -> bool:
            decided = await self.fetch(_DECIDED)
            await self.results.read_on()
            # Last: a command that was rerouted meanwhile is one more to be settled.
            await self.commands.read_on()
            if not decided or self.commands.total < self.sent:
                return False
            return all(
                not decided[lane]["works"]
                and decided[lane]["result_sequence"] == len(self.results.records[lane])
                and decided[lane]["result_sequence"] - decided[lane]["news"]
                == len(self.commands.records[lane])
                for lane in lanes
            )

        await self.until(all_settled, what="all settled and published", seconds=seconds)


async def send_record(
    producer: AIOKafkaProducer, topics: Topics, record: CommandRecord
) -> asyncio.Future[Any]:
    sent: asyncio.Future[Any] = await producer.send(
        topics.commands,
        record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp,
        headers=record.headers,
    )
    return sent
