"""Which errors of PostgreSQL the publisher waits out, and which are faults of ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from producer.journal import JournalAway, JournalReader


class Failing:
    """A pool whose every statement fails in the same way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def fetch(self, *_: Any) -> None:
        raise self._error

    fetchrow = fetch

    @asynccontextmanager
    async def acquire(self, **_: float) -> AsyncIterator["Failing"]:
        yield self


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.TooManyConnectionsError("x"),
        asyncpg.AdminShutdownError("x"),
        asyncpg.QueryCanceledError("x"),
        asyncpg.ConnectionDoesNotExistError("x"),
        asyncpg.DeadlockDetectedError("x"),
        asyncpg.InterfaceError("x"),
        TimeoutError(),
        ConnectionResetError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_journal_reader__waits_out_what_may_heal(error: Exception) -> None:
    reader = JournalReader(Failing(error))  # type: ignore[arg-type]
    with pytest.raises(JournalAway):
        await reader.lane(0)
    with pytest.raises(JournalAway):
        await reader.after(0, 0, 1)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedTableError("x"),
        asyncpg.InsufficientPrivilegeError("x"),
        asyncpg.PostgresSyntaxError("x"),
        asyncpg.exceptions._base.DataError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_journal_reader__lets_faults_of_ours_through(error: Exception) -> None:
    reader = JournalReader(Failing(error))  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        await reader.lane(0)
    with pytest.raises(type(error)):
        await reader.after(0, 0, 1)
