"""The journal as the publisher reads it: what follows a result, in order."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from contract.journal import JournalRow, journal_row, whole_units
from producer.sqlfiles import statement

_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the session while nothing was asked of it
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.PostgresSystemError,
    asyncpg.LockNotAvailableError,
    asyncpg.SerializationError,  # a standby's conflict with recovery, too
    asyncpg.DeadlockDetectedError,
)
"""What waiting may heal. Any other error is a fault of ours and goes through."""

_ACQUIRE_SECONDS_MAX = 10.0
_LANE = statement("lane")
_UNPUBLISHED = statement("unpublished")
_RECORDED_AT = statement("recorded_at")
_LAST_CHANGE = statement("last_change")


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
        async with self._asked() as connection:
            row = await connection.fetchrow(_LANE, lane)
        if row is None:
            raise JournalAway("the lane's row is missing")
        return LaneProgress(*row)

    async def recorded_at(self, lane: int, result_sequence: int) -> datetime | None:
        """When this result was decided, None if its row is gone. Raises JournalAway."""
        async with self._asked() as connection:
            at: datetime | None = await connection.fetchval(_RECORDED_AT, lane, result_sequence)
        return at

    async def last_change(self, lane: int, result_sequence: int) -> int | None:
        """The last change up to this result, None if no row has one. Raises JournalAway."""
        async with self._asked() as connection:
            sequence: int | None = await connection.fetchval(_LAST_CHANGE, lane, result_sequence)
        return sequence

    async def after(self, lane: int, result_sequence: int, rows_max: int) -> list[JournalRow]:
        """Up to `rows_max` rows of whole units behind `result_sequence`. Raises JournalAway."""
        async with self._asked() as connection:
            rows = await connection.fetch(_UNPUBLISHED, lane, result_sequence, rows_max)
        return whole_units([journal_row(row) for row in rows], rows_max)

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[Any]:
        """A connection; neither to get it nor to give it back waits for ever."""
        with _translated():
            async with self._pool.acquire(timeout=_ACQUIRE_SECONDS_MAX) as connection:
                yield connection


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _AWAY as error:
        if isinstance(error, ValueError):  # an argument that has no encoding is no outage
            raise
        raise JournalAway(type(error).__name__) from error
