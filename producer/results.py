"""Reads the results topic for whoever waits in this process for the answer to a command.

A partition is read from its end as of before the first command that waits there is sent, so no
answer can be missed; each result answers one waiter, in the order in which they began to wait.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contract.events import COMPLETED, DEAD_LETTERED, PROGRESSED, SETTLED
from domain.identity import Identity
from domain.outcomes import Outcome
from producer.command_errors import CommandNotSent, ResultTimeout, ResultUnknown
from producer.outgoing import CommandRecord

log = structlog.get_logger("producer")

# What one poll takes at most: some milliseconds of work between two looks at the event loop.
_POLL_RECORDS_MAX = 1000
# Bounds how long a partition that begins to be read waits for the fetch that is under way.
_FETCH_MILLISECONDS_MAX = 50
# A broker that is there answers in milliseconds: a guess with a wide margin.
_ANSWER_SECONDS_MAX = 10.0
_SETTLED_TYPE = SETTLED.encode()
_DEAD_LETTERED_TYPE = DEAD_LETTERED.encode()


_COMPLETED_TYPE = COMPLETED.encode()
_NEWS_TYPES = (PROGRESSED.encode(), _COMPLETED_TYPE)

Answer: TypeAlias = "asyncio.Future[CommandResult]"
News = tuple[bool, Mapping[str, Any]]
"""Is it the end of an operation? And the data of the event."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command was settled (CONTRACT.md 5).

    Attributes:
        outcome: the contract's; or `dead_lettered` where the database refused the command, with
            the error code as `reason`: an operator may redrive it.
        version: the candidate's version, where the result names one.
        data: the event's data, whole.
    """

    outcome: Outcome | Literal["dead_lettered"]
    reason: str | None
    version: int | None
    data: Mapping[str, Any]

    @property
    def command_id(self) -> str:
        """The id that the command was sent with."""
        return str(self.data["command_id"])

    @property
    def refused(self) -> bool:
        """Was nothing done, now or by an earlier command of this identity?"""
        outcome = self.data.get("original", self.data).get("outcome", self.outcome)
        return outcome in ("rejected", "dead_lettered")


class Expected:
    """The answers to some commands, in their order; make them with `ResultsReader.expect`."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        loop = asyncio.get_running_loop()
        self.answers = [(identity, loop.create_future()) for identity in identities]

    async def results(self, *, until: float) -> Iterator[CommandResult]:
        """Wait for all of them, then iterate over those that came.

        Args:
            until: the moment, by the event loop's clock, after which to wait no longer.

        Raises:
            ResultTimeout, ResultUnknown: by the iterator, at the first that did not come.
        """
        seconds = max(until - asyncio.get_running_loop().time(), 0.0)
        await asyncio.wait([answer for _, answer in self.answers], timeout=seconds)
        return self._settled()

    def _settled(self) -> Iterator[CommandResult]:
        for identity, answer in self.answers:
            if not answer.done():
                raise ResultTimeout(
                    f"Command {identity.command_id} is not settled yet. "
                    "It may be later: to learn the outcome, send it again with the same id."
                )
            yield answer.result()


class OperationNews:
    """What is told of one bulk operation, in order; make it with `ResultsReader.news`."""

    def __init__(self, queue: "asyncio.Queue[News | None]") -> None:
        self._queue = queue

    async def next(self, seconds: float) -> News:
        """The next `progressed` or `completed`.

        Raises:
            ResultTimeout: nothing was told in time; the operation may go on, or be paused.
            ResultUnknown: results can no longer be read.
        """
        try:
            async with asyncio.timeout(seconds):
                told = await self._queue.get()
        except TimeoutError:
            raise ResultTimeout("Nothing was told of the operation in time.") from None
        if told is None:
            raise ResultUnknown("Results can no longer be read.")
        return told


class ResultsReader:
    """One consumer of results, without a group, for all who wait.

    Args:
        kafka: keyword arguments of aiokafka's clients.
        partitions_total: of the topics, all alike.
    """

    def __init__(self, *, kafka: Mapping[str, Any], topic: str, partitions_total: int) -> None:
        self._kafka = kafka
        self._partitions = [TopicPartition(topic, lane) for lane in range(partitions_total)]
        self._waiting: dict[Identity, deque[Answer]] = {}
        self._news: dict[str, asyncio.Queue[News | None]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._followed: set[int] = set()
        self._following = asyncio.Lock()

    async def follow(self, partitions: set[int]) -> None:
        """Read these partitions, from their ends as of now where they are not yet read.

        Raises:
            CommandNotSent: results cannot be read, so better not send.
        """
        if partitions <= self._followed:
            return
        try:
            async with self._following, asyncio.timeout(_ANSWER_SECONDS_MAX):
                if missing := partitions - self._followed:
                    await self._follow(missing)
        except (KafkaError, OSError, TimeoutError) as error:
            raise CommandNotSent("Results cannot be read, so nothing was sent.") from error

    @contextmanager
    def expect(self, records: Sequence[CommandRecord]) -> Iterator[Expected]:
        """Wait for the answers to commands that are sent inside the context.

        The partitions of the records are to be followed before.
        """
        expected = Expected([record.identity for record in records])
        for identity, answer in expected.answers:
            self._waiting.setdefault(identity, deque()).append(answer)
        try:
            yield expected
        finally:
            for identity, answer in expected.answers:
                self._forget(identity, answer)

    @contextmanager
    def news(self, operation_id: str) -> Iterator["OperationNews"]:
        """What is told of a bulk operation from now on. One listener an operation."""
        queue = self._news[operation_id] = asyncio.Queue()
        try:
            yield OperationNews(queue)
        finally:
            del self._news[operation_id]

    async def close(self) -> None:
        """Stop reading; who still waits is told."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.result()

    async def _follow(self, partitions: set[int]) -> None:
        if self._consumer is None:
            self._consumer = await self._start()
            self._reading = asyncio.create_task(self._read(self._consumer))
        consumer = self._consumer
        ends = await consumer.end_offsets([self._partitions[lane] for lane in partitions])
        for topic_partition, end in ends.items():
            consumer.seek(topic_partition, end)
            consumer.resume(topic_partition)
        self._followed |= partitions

    async def _start(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._kafka,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="latest",
            fetch_max_wait_ms=_FETCH_MILLISECONDS_MAX,
        )
        try:
            await consumer.start()
            consumer.assign(self._partitions)
            consumer.pause(*self._partitions)
        except BaseException:
            await consumer.stop()
            raise
        return consumer

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while True:
                polled = await consumer.getmany(timeout_ms=1000, max_records=_POLL_RECORDS_MAX)
                for records in polled.values():
                    for record in records:
                        self._answer(record)
        except KafkaError as error:
            log.warning("results unreadable", action="results_unreadable", error=repr(error))
        finally:
            self._consumer = None
            self._followed.clear()
            self._give_up()
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                    await consumer.stop()

    def _answer(self, record: ConsumerRecord) -> None:
        if not self._waiting and not self._news:
            return
        event_type = next((value for name, value in record.headers if name == "ce_type"), None)
        if event_type == _SETTLED_TYPE:
            data = orjson.loads(record.value)
            result = CommandResult(data["outcome"], data.get("reason"), data.get("version"), data)
        elif event_type == _DEAD_LETTERED_TYPE:
            data = orjson.loads(record.value)
            result = CommandResult("dead_lettered", data["error_code"], None, data)
        elif event_type in _NEWS_TYPES and self._news:
            data = orjson.loads(record.value)
            if (queue := self._news.get(data["operation_id"])) is not None:
                queue.put_nowait((event_type == _COMPLETED_TYPE, data))
            return
        else:
            return
        identity = Identity(
            data.get("organization_id", ""),
            data.get("command_source", ""),
            data.get("command_id", ""),
        )
        for answer in self._waiting.get(identity, ()):
            if not answer.done():
                answer.set_result(result)
                return

    def _forget(self, identity: Identity, answer: Answer) -> None:
        if answer.done() and not answer.cancelled():
            answer.exception()  # nobody may have asked for it, and that is no fault
        answers = self._waiting[identity]
        answers.remove(answer)
        if not answers:
            del self._waiting[identity]

    def _give_up(self) -> None:
        for queue in self._news.values():
            queue.put_nowait(None)
        for answers in self._waiting.values():
            for answer in answers:
                if not answer.done():
                    answer.set_exception(ResultUnknown("Results can no longer be read."))
