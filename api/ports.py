"""What the API needs of the world beyond its own reads of PostgreSQL.

Somebody who puts commands into their topic, and somebody who works the queue of dead letters.
`funnel` wires both; nothing in this room knows a Kafka client, or the audit room.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from api.queries import Position
from contract.dead_letters import DeadLetterId


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandToSend:
    """One command (CONTRACT.md 2 and 3): `data` names its organization."""

    command_type: str
    data: Mapping[str, Any]
    command_id: str
    source: str
    traceparent: str | None = None
    tracestate: str | None = None


class SenderAway(Exception):
    """Kafka does not take commands now. The command may have arrived all the same."""


class CommandSender(Protocol):
    """The way to the commands topic."""

    @property
    def is_away(self) -> bool:
        """Whether a command sent now would be refused at once."""

    async def send(self, command: CommandToSend) -> Position:
        """Where the command is stored, once it is.

        Raises:
            SenderAway: within a few seconds, and at once while it is known.
        """


class QueuePlace(NamedTuple):
    """Where a dead letter stands in the queue, oldest first."""

    recorded_at: datetime
    id: DeadLetterId


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLettersWanted:
    """Which dead letters; None: whatever they are. `until` is exclusive."""

    error_codes: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    organization_id: str | None = None
    lane: int | None = None
    redriven: bool | None = None
    after: QueuePlace | None = None
    limit: int


class DeskAway(Exception):
    """PostgreSQL does not answer, or Kafka took nothing."""


class LetterUnknown(Exception):
    """There is no such dead letter."""


class LetterRefused(Exception):
    """The letter is not sent; `code` says why, for programs."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class DeadLetterDesk(Protocol):
    """Where dead letters are worked."""

    async def page(self, wanted: DeadLettersWanted) -> list[tuple[QueuePlace, dict[str, Any]]]:
        """The next letters, each with its place. Raises DeskAway."""

    async def redrive(
        self, letter_id: DeadLetterId, *, requested_by: str, again: bool, wait_s: float
    ) -> dict[str, Any]:
        """How the redrive ended; its `outcome` is `pending` if it has not yet.

        Raises:
            LetterUnknown, LetterRefused: nothing was sent.
            DeskAway: Kafka did not take it, or may have.
        """
