"""What a lane needs of the room that publishes; `funnel` brings the two together."""

from collections.abc import Callable
from typing import Protocol

from contract.journal import JournalRow
from contract.lanes import Published


class Outbox(Protocol):
    """Publishes what a lane's transactions made true."""

    @property
    def published(self) -> Published: ...

    @property
    def takes(self) -> bool:
        """Would `offer` return at once?"""

    @property
    def away(self) -> bool:
        """Does it wait for Kafka or PostgreSQL?"""

    async def run(self) -> None:
        """Until cancelled; raises LaneEnded."""

    async def recovered(self) -> None:
        """Returns once the former owner is fenced and nothing of it is left unpublished."""

    async def offer(self, rows: list[JournalRow]) -> None:
        """Waits while too much is unpublished."""

    async def published_up_to(self, result_sequence: int) -> None:
        """Returns once this result is published."""


OutboxOf = Callable[[int, int], Outbox]
"""`(lane, owner_epoch) -> Outbox`"""
