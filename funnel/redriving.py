"""Where redrives meet Kafka: the queue of `audit`, the way to the commands topic of `producer`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from audit.redrive import RecordNotSent
from contract.record import SourceRecord
from funnel import servers
from funnel.settings import Settings
from producer.command_errors import CommandNotSent
from producer.forward import Forwarder


class RedriveSender:
    """Sends records as `audit.redrive` wants them sent."""

    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder

    async def send(self, lane: int, record: SourceRecord) -> int:
        """The record's offset. Raises RecordNotSent."""
        try:
            return await self._forwarder.send(lane, record)
        except CommandNotSent as error:
            raise RecordNotSent(str(error)) from error


@asynccontextmanager
async def redrive_sender(settings: Settings) -> AsyncIterator[RedriveSender]:
    """Connects with the first record, and closes at the end."""
    forwarder = Forwarder(kafka=servers.kafka_options(settings), topic=settings.topics.commands)
    async with forwarder.running():
        yield RedriveSender(forwarder)
