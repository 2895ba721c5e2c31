"""Connections with the operators' rights, for what reads and works the queue of dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from audit.database import AuditRefused

ROLE = "funnel_operator"
_ANSWER_SECONDS_MAX = 30.0
_CONNECT_SECONDS_MAX = 10.0


class Operators:
    """Each statement takes a connection of its own, and is answered in time or not at all.

    Every method raises TimeoutError where PostgreSQL is silent, also about the cancelled statement.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[asyncpg.Record]",
        *,
        connect_seconds_max: float,
        answer_seconds_max: float,
    ) -> None:
        self._pool = pool
        self._connect_seconds_max = connect_seconds_max
        self._answer_seconds_max = answer_seconds_max

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """All rows."""
        # The time-out of acquire covers the release too, where a cancelled query is waited for.
        async with self._pool.acquire(timeout=self._connect_seconds_max) as connection:
            return await connection.fetch(sql, *arguments, timeout=self._answer_seconds_max)

    async def fetchrow(self, sql: str, *arguments: Any) -> asyncpg.Record | None:
        """The first row, if there is one."""
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row, if there is one."""
        row = await self.fetchrow(sql, *arguments)
        return None if row is None else row[0]


@asynccontextmanager
async def open_operators(
    database_url: str,
    *,
    connections_max: int = 2,
    connect_seconds_max: float = _CONNECT_SECONDS_MAX,
    answer_seconds_max: float = _ANSWER_SECONDS_MAX,
) -> AsyncIterator[Operators]:
    """Connections that are made when they are first used.

    Raises:
        AuditRefused: the role or a grant is missing.
    """
    pool = await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=connections_max,
        timeout=connect_seconds_max,
        init=_read_json_as_bytes,
        server_settings={
            "role": ROLE,
            "application_name": "funnel dead-letters",
            "timezone": "UTC",
            "jit": "off",
        },
    )
    try:
        yield Operators(
            pool, connect_seconds_max=connect_seconds_max, answer_seconds_max=answer_seconds_max
        )
    except asyncpg.InvalidParameterValueError as error:
        raise AuditRefused(f"There is no role {ROLE}: run `funnel migrate up`.") from error
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError) as error:
        raise AuditRefused(f"{error.args[0]}, as {ROLE}: run `funnel migrate up`.") from error
    finally:
        pool.terminate()


async def _read_json_as_bytes(connection: Any) -> None:
    await connection.set_type_codec(
        "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
    )
