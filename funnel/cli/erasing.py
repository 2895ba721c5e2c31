"""Sends an erase command, tells its result and, if asked to, waits until nothing is left.

`candidate.erased.v1` is looked for from the instant of the result on, so it cannot be missed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import typer
from aiokafka import AIOKafkaConsumer, TopicPartition

from contract.events import ERASED
from contract.topics import Topics
from domain.identity import home_lane
from funnel.cli.sending import OK, line_of
from funnel.exits import BAD_DATA
from producer.client import CommandClient, OutgoingCommand
from producer.command_errors import ResultTimeout

_POLL_MILLISECONDS = 200
_ERASED_TYPE = ("ce_type", ERASED.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseRun:
    """How to send; `kafka` holds keyword arguments of aiokafka's clients."""

    kafka: Mapping[str, Any]
    topics: Topics
    source: str
    json: bool

    async def __call__(
        self, command: OutgoingCommand, *, seconds_max: float, completed: bool
    ) -> int:
        """Send it; the exit code.

        Args:
            seconds_max: to wait for all of it.
            completed: wait for the deferred part, too.

        Raises:
            CommandNotSent, ResultTimeout, ResultUnknown: as of any command.
        """
        deadline = asyncio.get_running_loop().time() + seconds_max
        client = CommandClient(kafka=self.kafka, source=self.source, topics=self.topics)
        async with client:
            result = await client.send(command, wait=seconds_max)
        typer.echo(orjson.dumps(result.data) if self.json else line_of(result))
        if result.refused:
            return BAD_DATA
        if completed:
            repeated = result.outcome == "duplicate"
            since = None if repeated else datetime.fromisoformat(result.data["settled_at"])
            try:
                async with asyncio.timeout_at(deadline):
                    erased = await self._erased(command, since)
            except TimeoutError:
                raise ResultTimeout(
                    "The erasure is accepted and goes on, it was not completed in time."
                ) from None
            typer.echo(orjson.dumps(erased) if self.json else _line(erased))
        return OK

    async def _erased(self, command: OutgoingCommand, since: datetime | None) -> dict[str, Any]:
        """The data of the first `candidate.erased.v1` of the candidate behind an instant."""
        consumer = AIOKafkaConsumer(
            self.topics.results,
            **self.kafka,
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            partitions = consumer.assignment()  # without a group all of them
            lane = home_lane(command.data["organization_id"], len(partitions))
            at = TopicPartition(self.topics.results, lane)
            consumer.pause(*(partitions - {at}))
            await consumer.seek_to_beginning(at)
            if since is not None:
                found = await consumer.offsets_for_times({at: int(since.timestamp() * 1000)})
                if found[at] is not None:
                    consumer.seek(at, found[at].offset)
            while True:
                polled = await consumer.getmany(at, timeout_ms=_POLL_MILLISECONDS)
                for record in polled.get(at, ()):
                    if _ERASED_TYPE not in record.headers:
                        continue
                    data: dict[str, Any] = orjson.loads(record.value)
                    if data["candidate_id"] == command.data["candidate_id"]:
                        return data
        finally:
            await consumer.stop()


def _line(erased: Mapping[str, Any]) -> str:
    return (
        f"erased candidate {erased['candidate_id']}: emptied {erased['journal_rows']} journal rows,"
        f" {erased['operations']} operations, {erased['dead_letters']} dead letters"
    )
