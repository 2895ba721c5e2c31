"""The journal as the publisher reads it: what follows a result, in order."""

from typing import NamedTuple

import asyncpg

from contract.journal import JournalRow, journal_row
from producer.sqlfiles import statement

_AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_LANE = statement("lane")
_UNPUBLISHED = statement("unpublished")


class LaneProgress(NamedTuple):
    """A lane as the publisher sees it."""

    owner_epoch: int
    result_sequence: int
    published_result_sequence: int
    published_end_offset: int


class JournalAway(Exception):
    """PostgreSQL does not answer; asking again later may help."""


class JournalReader:
    """Reads with the consumer's connections, so with its rights and time-outs."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lane(self, lane: int) -> LaneProgress:
        """Raises JournalAway."""
        try:
            row = await self._pool.fetchrow(_LANE, lane)
        except _AWAY as error:
            raise JournalAway(type(error).__name__) from error
        if row is None:
            raise JournalAway("the lane's row is missing")
        return LaneProgress(*row)

    async def after(self, lane: int, result_sequence: int, rows_max: int) -> list[JournalRow]:
        """Up to `rows_max` rows whose result follows `result_sequence`. Raises JournalAway."""
        try:
            rows = await self._pool.fetch(_UNPUBLISHED, lane, result_sequence, rows_max)
        except _AWAY as error:
            raise JournalAway(type(error).__name__) from error
        return [journal_row(row) for row in rows]
