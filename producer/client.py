"""What an upstream service imports to send commands and, if it likes, to wait for their results.

Every command goes to its organization's home lane, once acknowledged it is stored, and sending
the same one again (same id, same data) never has a second effect.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Self, Unpack, overload

from contract.topics import Topics
from domain.candidate import BulkChanges, Changes, NewCandidate
from domain.commands import CommandParser, OnConflict
from domain.identity import operation_id_of
from producer.command_errors import (
    CommandError,
    CommandNotSent,
    CommandTooLarge,
    ResultTimeout,
    ResultUnknown,
    TopicMissing,
)
from producer.delivery import Delivery, Sent
from producer.outgoing import (
    CommandRecord,
    EnvelopeFields,
    Id,
    OutgoingCommand,
    command_record,
    new_command_id,
)
from producer.pipeline import in_order
from producer.results import CommandResult, ResultsReader

__all__ = [
    "CommandClient",
    "CommandError",
    "CommandNotSent",
    "CommandResult",
    "CommandTooLarge",
    "OutgoingCommand",
    "ResultTimeout",
    "ResultUnknown",
    "Sent",
    "TopicMissing",
    "new_command_id",
]

DELIVERY_SECONDS = 30.0
"""Long enough for a leader to move; a guess."""
WAIT_SECONDS = 10.0
"""What the HTTP API waits, too."""

# A chunk is what is encoded and delivered together: its records share the cost of a request, and
# its bytes times the chunks under way bound what a load of any length holds in memory.
_CHUNK_BYTES_MAX = 8 * 1024 * 1024
_LOAD_CHUNK_RECORDS = 2000
_LOAD_CHUNKS_UNDER_WAY = 2
# Smaller where results are waited for, so that they come steadily; more of them under way, so
# that the service never runs out of commands meanwhile.
_WAIT_CHUNK_RECORDS = 500
_WAIT_CHUNKS_UNDER_WAY = 8


class CommandClient:
    """Sends commands; made for one event loop, shared by all of its tasks.

    Example:
        ```
        async with CommandClient(
            kafka={"bootstrap_servers": "kafka:9092"}, source="/ats/importer"
        ) as client:
            result = await client.update(
                organization_id,
                candidate_id,
                changes={"status": "interview", "tags": {"add": ["senior"]}},
                expected_version=7,
                actor="recruiter@example.com",
                wait=10.0,
            )
            if result.refused:
                print(result.outcome, result.reason)
        ```

    Args:
        kafka: keyword arguments of aiokafka's clients: `bootstrap_servers`,
            `security_protocol`, `ssl_context` and so on.
        source: `ce_source` of the commands, a URI reference that names the sending system. It
            is part of a command's identity: keep it.
        topics: the topics of the deployment.
        parser: checks every command here before it is sent; None leaves that to the service.
        delivery_seconds: how long Kafka may take to acknowledge.
    """

    def __init__(
        self,
        *,
        kafka: Mapping[str, Any],
        source: str,
        topics: Topics = Topics(),  # noqa: B008  frozen
        parser: CommandParser | None = None,
        delivery_seconds: float = DELIVERY_SECONDS,
    ) -> None:
        self._kafka = kafka
        self._source = source
        self._topics = topics
        self._parser = parser
        self._delivery = Delivery(kafka=kafka, topic=topics.commands, seconds_max=delivery_seconds)
        self._results: ResultsReader | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Find out now whether Kafka and the topic are there; else the first command does.

        Raises:
            CommandNotSent, TopicMissing: they are not.
        """
        await self._delivery.partitions_total()

    async def reachable(self) -> bool:
        """Whether Kafka and the topic are there now; takes a few seconds if they are not."""
        return await self._delivery.reachable()

    async def close(self) -> None:
        """Deliver what is under way and disconnect, within a bound."""
        try:
            await self._delivery.close()
        finally:
            if self._results is not None:
                await self._results.close()

    @overload
    async def send(self, command: OutgoingCommand, *, wait: None = None) -> Sent: ...
    @overload
    async def send(self, command: OutgoingCommand, *, wait: float) -> CommandResult: ...
    async def send(
        self, command: OutgoingCommand, *, wait: float | None = None
    ) -> Sent | CommandResult:
        """Send one command.

        Args:
            wait: seconds to wait for the result once Kafka has the command; None: do not wait.

        Returns:
            Where Kafka has stored it; or, with `wait`, its result, which may be a rejection.

        Raises:
            InvalidCommand, ValueError, TypeError: it is not a command; it was not sent.
            CommandTooLarge: it has more bytes than the topic takes; it was not sent.
            CommandNotSent: Kafka did not acknowledge it.
            ResultTimeout: it was not settled in time, and may be later.
            ResultUnknown: results cannot be read any more.
        """
        record = self._record(command, await self._delivery.partitions_total())
        if wait is None:
            return await self._delivery.one(record)
        reader = await self._reader()
        await reader.follow({record.partition})
        return next(await self._settle(reader, [record], wait))

    async def create(
        self,
        organization_id: Id,
        candidate_id: Id,
        *,
        candidate: NewCandidate,
        actor: str,
        wait: float = WAIT_SECONDS,
        **envelope: Unpack[EnvelopeFields],
    ) -> CommandResult:
        """Create a candidate and wait for the result; `send` says what it raises.

        Args:
            envelope: `id`, `source`, `traceparent`, `tracestate` of the command.
        """
        command = OutgoingCommand.create(
            organization_id=organization_id,
            candidate_id=candidate_id,
            candidate=candidate,
            actor=actor,
            **envelope,
        )
        return await self.send(command, wait=wait)

    async def update(
        self,
        organization_id: Id,
        candidate_id: Id,
        *,
        changes: Changes,
        actor: str,
        expected_version: int | None = None,
        on_conflict: OnConflict = "reject",
        wait: float = WAIT_SECONDS,
        **envelope: Unpack[EnvelopeFields],
    ) -> CommandResult:
        """Change a candidate and wait for the result; `send` says what it raises.

        Args:
            changes: absent keeps, None clears, a value sets.
            expected_version: the version that the changes were made from.
            on_conflict: what to do if the candidate has moved on since.
            envelope: `id`, `source`, `traceparent`, `tracestate` of the command.
        """
        command = OutgoingCommand.update(
            organization_id=organization_id,
            candidate_id=candidate_id,
            changes=changes,
            actor=actor,
            expected_version=expected_version,
            on_conflict=on_conflict,
            **envelope,
        )
        return await self.send(command, wait=wait)

    async def bulk_update(
        self,
        organization_id: Id,
        *,
        changes: BulkChanges,
        actor: str,
        candidate_ids: Iterable[Id] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the contract's name
        expected_versions: Mapping[str, int] | None = None,
        on_conflict: OnConflict = "reject",
        dry_run: bool = False,
        wait: float = WAIT_SECONDS,
        **envelope: Unpack[EnvelopeFields],
    ) -> CommandResult:
        """Change many candidates alike and wait for the result; `send` says what it raises.

        Up to 1000 candidates the result has `counts` and `failed`; more, or a filter, are
        `accepted` with an `operation_id` and go on in the background: see `follow`.

        Args:
            candidate_ids: at most 20,000; or else `filter`, which may match 200,000.
            expected_versions: of some or all of them, by id.
            dry_run: decide and count, change nothing.
        """
        command = OutgoingCommand.bulk_update(
            organization_id=organization_id,
            changes=changes,
            actor=actor,
            candidate_ids=candidate_ids,
            filter=filter,
            expected_versions=expected_versions,
            on_conflict=on_conflict,
            dry_run=dry_run,
            **envelope,
        )
        return await self.send(command, wait=wait)

    async def follow(
        self, command: OutgoingCommand, *, wait: float
    ) -> AsyncGenerator[CommandResult | Mapping[str, Any]]:
        """Send a bulk command, or one that retries an operation, and see it through.

        Yields its result and, if that is `accepted`, the data of each `progressed` event and of
        the `completed` one, which is the last. Close it (`contextlib.aclosing`) to leave early:
        the operation goes on.

        Args:
            wait: seconds to wait for the result, and from one event to the next.

        Raises:
            As `send`.
        """
        record = self._record(command, await self._delivery.partitions_total())
        reader = await self._reader()
        await reader.follow({record.partition})
        with reader.news(operation_id_of(record.identity.key)) as news:
            result = next(await self._settle(reader, [record], wait))
            yield result
            ended = result.outcome != "accepted"
            while not ended:
                ended, told = await news.next(wait)
                yield told

    async def send_many(
        self, commands: Iterable[OutgoingCommand], *, wait: float
    ) -> AsyncGenerator[CommandResult]:
        """Send commands in bulk and yield their results, in the order of the commands.

        No more than a few thousand are under way at a time. The first error ends it: the
        results before it have been yielded, commands after it may have been sent. Close the
        iterator (`contextlib.aclosing`) when leaving it early.

        Args:
            wait: seconds for a chunk of commands to be settled, once Kafka has it.

        Raises:
            As `send`.
        """
        reader = await self._reader()

        async def settlements() -> AsyncGenerator[Coroutine[Any, Any, Iterator[CommandResult]]]:
            async for records in self._chunks(commands, _WAIT_CHUNK_RECORDS):
                await reader.follow({record.partition for record in records})
                yield self._settle(reader, records, wait)

        async with aclosing(in_order(settlements(), _WAIT_CHUNKS_UNDER_WAY)) as settled:
            async for results in settled:
                for result in results:
                    yield result

    async def load(
        self,
        commands: Iterable[OutgoingCommand],
        *,
        report: Callable[[int], None] | None = None,
    ) -> int:
        """Send commands in bulk, without waiting for results; the fast way for large loads.

        Memory is bounded by a few chunks of some megabytes, whatever the number of commands.

        Args:
            report: told the number sent so far, now and then.

        Returns:
            How many were sent, all of them acknowledged.

        Raises:
            As `send`; any of the commands may have arrived. Send all of them again, with the
            same ids.
        """

        async def deliveries() -> AsyncGenerator[Coroutine[Any, Any, int]]:
            async for records in self._chunks(commands, _LOAD_CHUNK_RECORDS):
                yield self._delivery.many(records)

        sent = 0
        async with aclosing(in_order(deliveries(), _LOAD_CHUNKS_UNDER_WAY)) as delivered:
            async for records_total in delivered:
                sent += records_total
                if report is not None:
                    report(sent)
        return sent

    async def _settle(
        self, reader: ResultsReader, records: list[CommandRecord], wait: float
    ) -> Iterator[CommandResult]:
        with reader.expect(records) as expected:
            await self._delivery.many(records)
            return await expected.results(until=asyncio.get_running_loop().time() + wait)

    async def _reader(self) -> ResultsReader:
        if self._results is None:
            self._results = ResultsReader(
                kafka=self._kafka,
                topic=self._topics.results,
                partitions_total=await self._delivery.partitions_total(),
            )
        return self._results

    async def _chunks(
        self, commands: Iterable[OutgoingCommand], records_max: int
    ) -> AsyncGenerator[list[CommandRecord]]:
        partitions_total = await self._delivery.partitions_total()
        records: list[CommandRecord] = []
        size_bytes = 0
        for command in commands:
            record = self._record(command, partitions_total)
            records.append(record)
            size_bytes += record.size
            if len(records) >= records_max or size_bytes >= _CHUNK_BYTES_MAX:
                yield records
                records, size_bytes = [], 0
        if records:
            yield records

    def _record(self, command: OutgoingCommand, partitions_total: int) -> CommandRecord:
        return command_record(
            command,
            source=self._source,
            partitions_total=partitions_total,
            parser=self._parser,
        )
