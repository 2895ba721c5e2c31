"""The API's way to the commands topic, with a live view of whether Kafka takes commands.

While Kafka is known to be away every send is refused at once; a look at it each second is what
ends that. A send under way goes on when its request is gone: nothing that was begun is lost.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from api.limits import SEND_S_MAX, SENDER_CHECK_S, SENDS_MAX
from api.ports import CommandToSend, SenderAway
from api.queries import Position
from contract.topics import Topics
from producer.client import CommandClient, CommandNotSent, OutgoingCommand, Sent

log = structlog.get_logger("funnel")

_ANSWER_S = 0.2
"""After the client's own bound: it throws its producer away meanwhile, which may take longer."""


class KafkaSender:
    """A `CommandSender`; `running` must surround its use."""

    def __init__(self, *, kafka: Mapping[str, Any], topics: Topics, source: str) -> None:
        self._client = CommandClient(
            kafka=kafka, source=source, topics=topics, delivery_seconds=SEND_S_MAX
        )
        self._away: str | None = "not connected yet"
        self._sending: set[asyncio.Task[Sent]] = set()

    @property
    def is_away(self) -> bool:
        """Whether a command sent now would be refused at once."""
        return self._away is not None or len(self._sending) >= SENDS_MAX

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KafkaSender"]:
        """Connected inside, as far as Kafka is there; delivers what is under way at the end."""
        looking = asyncio.create_task(self._look())
        try:
            yield self
        finally:
            looking.cancel()
            await asyncio.wait({looking, *self._sending}, timeout=SEND_S_MAX)
            await self._client.close()

    async def send(self, command: CommandToSend) -> Position:
        """As `CommandSender` says."""
        if self.is_away:
            raise SenderAway
        sending = asyncio.create_task(self._client.send(_outgoing(command)))
        self._sending.add(sending)
        sending.add_done_callback(self._over)
        await asyncio.wait({sending}, timeout=SEND_S_MAX + _ANSWER_S)
        if not sending.done():
            self._note("no acknowledgement")
            raise SenderAway
        try:
            sent = sending.result()
        except CommandNotSent as error:
            self._note(type(error).__name__)
            raise SenderAway from error
        return Position(sent.partition, sent.offset)

    def _over(self, sending: asyncio.Task[Sent]) -> None:
        """Where nobody waits any more, its error is old news."""
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()

    async def _look(self) -> None:
        while True:
            self._note(None if await self._client.reachable() else "no answer")
            await asyncio.sleep(SENDER_CHECK_S)

    def _note(self, away: str | None) -> None:
        if away is not None and self._away is None:
            log.warning("Kafka does not answer", action="sender_away", cause=away)
        if away is None and self._away is not None:
            log.info("Kafka takes commands", action="sender_back")
        self._away = away


def _outgoing(command: CommandToSend) -> OutgoingCommand:
    return OutgoingCommand(
        type=command.command_type,
        data=command.data,
        id=command.command_id,
        source=command.source,
        traceparent=command.traceparent,
        tracestate=command.tracestate,
    )
