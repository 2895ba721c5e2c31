"""What the API needs of the world beyond PostgreSQL: somebody who puts commands into their topic.

`funnel` wires it to a Kafka client; nothing in this room knows one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from api.queries import Position


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
