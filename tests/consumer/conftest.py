"""A consumer in this process on real servers, and everything it leaves in its output topics.

Most tests share one consumer and its topics; each ends with a look at all numbers so far.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from uuid import uuid4

import asyncpg
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from prometheus_client import CollectorRegistry

from contract.topics import COMMAND_MESSAGE_BYTES_MAX, Topics
from domain.identity import home_lane
from funnel.consume import ConsumeConfig, run_consumer
from producer.admin import apply_topics, delete_topics
from stack.servers import Servers
from tests.conftest import url_of

PARTITIONS = 4
WITHIN_SECONDS = 30
Json = dict[str, Any]
Headers = Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]]
PERSON: Json = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


class Command(NamedTuple):
    """A command as its sender wrote it."""

    id: str
    type: str
    data: Json
    source: str = "/tests"

    @property
    def lane(self) -> int:
        return home_lane(self.data["organization_id"].lower(), PARTITIONS)

    @property
    def headers(self) -> dict[str, bytes | None]:
        return {
            "ce_specversion": b"1.0",
            "ce_id": self.id.encode(),
            "ce_source": self.source.encode(),
            "ce_type": self.type.encode(),
            "content-type": b"application/json",
        }


Key = tuple[str, str]


def new_key(lane: int | None = None) -> Key:
    """A new organization, at home on `lane`, and a candidate of it."""
    while True:
        organization = str(uuid4())
        if lane in (None, home_lane(organization, PARTITIONS)):
            return organization, str(uuid4())


def create(key: Key, *, id: str | None = None, **person: Any) -> Command:  # noqa: A002
    data: Json = {"organization_id": key[0], "candidate_id": key[1], "actor": "user:1"}
    data["candidate"] = PERSON | person
    return Command(id or str(uuid4()), "candidate.create.v1", data)


def update(key: Key, changes: Json, *, id: str | None = None, **rest: Any) -> Command:  # noqa: A002
    data: Json = {"organization_id": key[0], "candidate_id": key[1], "actor": "user:1"}
    data |= {"changes": changes, **rest}
    return Command(id or str(uuid4()), "candidate.update.v1", data)


def erase(key: Key, *, id: str | None = None, **rest: Any) -> Command:  # noqa: A002
    data: Json = {"organization_id": key[0], "candidate_id": key[1], "actor": "user:1"}
    data |= {"reason": "asked for on paper", **rest}
    return Command(id or str(uuid4()), "candidate.erase.v1", data)


class Event(NamedTuple):
    """One record of results or changes; a tombstone has no data."""

    partition: int
    key: str | None
    headers: dict[str, bytes]
    data: Json

    @property
    def type(self) -> str:
        return self.headers["ce_type"].decode()


class Bed:
    """One deployment: its database, its topics, what was sent and what came out, in order."""

    def __init__(self, *, database_url: str, kafka: dict[str, Any], topics: Topics) -> None:
        self.database_url = database_url
        self.kafka = kafka
        self.topics = topics
        self.within_seconds = WITHIN_SECONDS
        self.results: list[Event] = []
        self.changes: list[Event] = []
        self.dead_letters: list[ConsumerRecord] = []
        self.registry = CollectorRegistry()
        self._came = asyncio.Condition()
        self._consumers: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Bed"]:
        """Producer, reader and a connection for looking at tables."""
        self.producer = AIOKafkaProducer(**self.kafka, max_request_size=COMMAND_MESSAGE_BYTES_MAX)
        self._reader = AIOKafkaConsumer(
            **self.kafka,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        self.database = await asyncpg.connect(self.database_url)
        await self.producer.start()
        await self._reader.start()
        topics = (self.topics.results, self.topics.changes, self.topics.dead_letters)
        self._reader.assign([TopicPartition(t, p) for t in topics for p in range(PARTITIONS)])
        reading = asyncio.create_task(self._read())
        try:
            yield self
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            await self._reader.stop()
            await self.producer.stop()
            await self.database.close()

    @asynccontextmanager
    async def consuming(self, **config: Any) -> AsyncIterator[asyncio.Task[None]]:
        """A consumer process, from its start to its orderly end."""
        settings: Json = {
            "database_url": self.database_url,
            "kafka": self.kafka,
            "topics": self.topics,
            "consumer_id": str(uuid4()),
            "event_source": "/tests/candidates",
        }
        self.registry = CollectorRegistry()
        stopping = asyncio.Event()
        task = asyncio.create_task(
            run_consumer(ConsumeConfig(**settings | config), stopping, self.registry)
        )
        self._consumers.append(task)
        try:
            yield task
        finally:
            self._consumers.remove(task)
            stopping.set()
            async with asyncio.timeout(WITHIN_SECONDS):
                await task

    async def send_raw(
        self, lane: int, value: bytes | None, headers: Headers = (), *, key: bytes | None = None
    ) -> int:
        """Sends one record as it is; its offset. A batch, for `send` refuses null on null."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        batch = self.producer.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=pairs)
        batch.close()
        sent = await self.producer.send_batch(batch, self.topics.commands, partition=lane)
        return int((await sent).offset)

    async def send(self, *commands: Command, lane: int | None = None) -> list[int]:
        """Sends commands in binary mode, in order, home unless `lane` says where; offsets."""
        sending = [
            await self.producer.send(
                self.topics.commands,
                orjson.dumps(command.data),
                key=command.data["organization_id"].encode(),
                partition=command.lane if lane is None else lane,
                headers=list(command.headers.items()),
            )
            for command in commands
        ]
        return [sent.offset for sent in await asyncio.gather(*sending)]

    async def settle(self, *commands: Command, lane: int | None = None) -> list[Json]:
        """Sends commands; the data of the result of each sending, in order."""
        seen = {(c.source, c.id): len(self.results_of(c)) for c in commands}
        await self.send(*commands, lane=lane)
        results = []
        for command in commands:
            identity = command.source, command.id
            results.append((await self.result(command, after=seen[identity])).data)
            seen[identity] += 1
        return results

    async def result(self, command: Command, *, after: int = 0) -> Event:
        """The result of a command that is the next after so many of it."""
        await self.until(lambda: len(self.results_of(command)) > after)
        return self.results_of(command)[after]

    def results_of(self, command: Command) -> list[Event]:
        asked = command.id, command.source, command.data["organization_id"].lower()
        names = ("command_id", "command_source", "organization_id")
        return [
            event
            for event in self.results
            if event.type == "candidate.command.settled.v1"
            and tuple(map(event.data.get, names)) == asked
        ]

    def changes_of(self, key: Key) -> list[Event]:
        return [event for event in self.changes if event.key == "/".join(key)]

    async def notice(self, lane: int, offset: int) -> Event:
        """The notice about the record at this place."""
        found: list[Event] = []

        def came() -> bool:
            origin = {"topic": self.topics.commands, "partition": lane, "offset": offset}
            found[:] = [event for event in self.results if event.data.get("origin") == origin]
            return bool(found)

        await self.until(came)
        [event] = found
        return event

    async def dead_letter(self, lane: int, offset: int) -> ConsumerRecord:
        """The dead letter of the record at this place."""
        found: list[ConsumerRecord] = []

        def came() -> bool:
            place = str(lane).encode(), str(offset).encode()
            found[:] = [
                record
                for record in self.dead_letters
                if tuple(header(record, f"x-original-{n}") for n in ("partition", "offset"))
                == place
            ]
            return bool(found)

        await self.until(came)
        [record] = found
        return record

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once it holds; looks again whenever output came. Fails with the consumer."""
        async with asyncio.timeout(self.within_seconds), self._came:
            while not condition():
                for consumer in self._consumers:
                    if consumer.done():
                        consumer.result()
                await self._came.wait()

    async def state(self, key: Key) -> Json | None:
        """The row of a candidate, as the change events tell it."""
        row = await self.database.fetchrow(
            "SELECT * FROM candidates WHERE organization_id = $1 AND candidate_id = $2", *key
        )
        if row is None:
            return None
        state = dict(row) | {"organization_id": key[0], "candidate_id": key[1]}
        state["attributes"] = orjson.loads(state["attributes"])
        for name in ("created_at", "updated_at"):
            state[name] = f"{state[name]:%Y-%m-%dT%H:%M:%S.%fZ}"
        return state

    def assert_numbered(self) -> None:
        """Results and changes of each partition are 1, 2, 3…, and say so in each place."""
        both = (self.topics.results, self.results), (self.topics.changes, self.changes)
        for topic, events in both:
            for lane in range(PARTITIONS):
                of_lane = [event for event in events if event.partition == lane]
                sequences = [int(event.headers["ce_sequence"]) for event in of_lane]
                assert sequences == list(range(1, len(of_lane) + 1)), f"{topic}/{lane}"
                for sequence, event in zip(sequences, of_lane, strict=True):
                    assert event.data.get("sequence", sequence) == sequence
                    assert event.headers["ce_id"] == f"{topic}/{lane}/{sequence}".encode()
                    assert event.headers["ce_sequence"] == b"%020d" % sequence

    async def _read(self) -> None:
        while True:
            polled = await self._reader.getmany(timeout_ms=1000)
            async with self._came:
                for at, records in polled.items():
                    for record in records:
                        self._note(at.topic, record)
                self._came.notify_all()

    def _note(self, topic: str, record: ConsumerRecord) -> None:
        if topic == self.topics.dead_letters:
            self.dead_letters.append(record)
            return
        key = None if record.key is None else record.key.decode()
        data = {} if record.value is None else orjson.loads(record.value)
        event = Event(record.partition, key, dict(record.headers), data)
        (self.results if topic == self.topics.results else self.changes).append(event)


def header(record: ConsumerRecord, name: str) -> bytes | None:
    """The last header of this name: ours stand behind the sender's."""
    value: bytes | None = dict(record.headers).get(name)
    return value


@pytest.fixture(scope="session")
async def shared_bed(
    servers: Servers, template_database: str, kafka_options: dict[str, Any]
) -> AsyncIterator[Bed]:
    name = f"test_{uuid4().hex[:12]}"
    topics = Topics(prefix=f"t{uuid4().hex[:12]}.")
    postgres = await asyncpg.connect(url_of(servers, "postgres"))
    await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    await apply_topics(kafka_options, topics, partitions_total=PARTITIONS)
    shared = Bed(database_url=url_of(servers, name), kafka=kafka_options, topics=topics)
    async with shared.open(), shared.consuming():
        yield shared
    await delete_topics(kafka_options, topics)
    await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await postgres.close()


@pytest.fixture
async def bed(shared_bed: Bed) -> AsyncIterator[Bed]:
    """The deployment that tests share, its consumer running; nothing may be amiss afterwards."""
    yield shared_bed
    shared_bed.assert_numbered()


@pytest.fixture
async def own_bed(
    database_url: str, kafka_options: dict[str, Any], topics: Topics
) -> AsyncIterator[Bed]:
    """A deployment of this test alone; no consumer runs yet."""
    async with Bed(database_url=database_url, kafka=kafka_options, topics=topics).open() as fresh:
        yield fresh
    fresh.assert_numbered()
