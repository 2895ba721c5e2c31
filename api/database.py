"""The API's connections to PostgreSQL: as the role that only reads, and one organization a time.

Nothing waits longer than `limits` says, and every way in which the database can be away becomes
`DatabaseAway`, here and nowhere else. A server that is frozen looks like one that is slow: when a
statement takes long, one look at the server tells them apart for all who wait, and while it is
silent nobody else begins to.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any, TypeAlias

import asyncpg
import structlog

from api.limits import ACQUIRE_S_MAX, CONNECTIONS_MAX, LOOK_S_MAX, PATIENCE_S, STATEMENT_S_MAX

ROLE = "funnel_api"

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

log = structlog.get_logger("api")

_SETTINGS = {
    "role": ROLE,
    "application_name": "gulf-funnel api",
    "default_transaction_read_only": "on",
    "statement_timeout": str(int(STATEMENT_S_MAX * 1000)),
    "idle_in_transaction_session_timeout": str(int(STATEMENT_S_MAX * 1000)),
    "search_path": "public",
    "jit": "off",
}

_SILENT = "Silent"

_AWAY = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
)
_NOT_MIGRATED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InsufficientPrivilegeError,  # grants belong to the schema
    asyncpg.InvalidParameterValueError,  # at connecting: there is no such role
)


class DatabaseAway(Exception):
    """PostgreSQL did not answer, or not in time; `cause` is the driver's word for it."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class SchemaMissing(DatabaseAway):
    """PostgreSQL answers, but without the schema or the grants that this code needs."""


class Database:
    """A pool that connects when it is asked, so that the API starts and lives without it."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._pool: Pool | None = None
        self._is_away = False
        self._looking: asyncio.Task[bool] | None = None
        self._silence: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Usable inside; the connections are closed at the end."""
        self._pool = pool = await asyncpg.create_pool(
            self._database_url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            reset=_nothing_to_reset,
            timeout=ACQUIRE_S_MAX,
            command_timeout=STATEMENT_S_MAX,
            server_settings=_SETTINGS,
        )
        try:
            yield
        finally:
            self._pool = None
            if self._silence is not None:
                self._silence.cancel()
            with suppress(TimeoutError):  # then asyncpg has cut the connections
                await asyncio.wait_for(pool.close(), ACQUIRE_S_MAX)

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction of its own.

        Raises:
            DatabaseAway: no answer within `ACQUIRE_S_MAX` and `STATEMENT_S_MAX`; of a server that
                answers nobody within `PATIENCE_S` and `LOOK_S_MAX`, and at once while it is known.
        """
        if self._pool is None:
            raise DatabaseAway("NotOpened")
        if self._silence is not None:
            raise DatabaseAway(_SILENT)
        fetching = asyncio.create_task(self._fetch(self._pool, sql, arguments))
        try:
            await asyncio.wait({fetching}, timeout=PATIENCE_S)
            if not fetching.done() and not await self._answers():
                self._note_silent()
                # It ends within its own bounds, which are those of a slow statement.
                fetching.add_done_callback(_forget)
                raise DatabaseAway(_SILENT)
            return await fetching
        except asyncio.CancelledError:
            fetching.cancel()
            raise

    async def demand_answer(self) -> None:
        """For who asks it over connections of their own. Raises DatabaseAway as `fetch` does."""
        await self.fetch("SELECT 1")

    async def _fetch(self, pool: Pool, sql: str, arguments: Sequence[Any]) -> list[asyncpg.Record]:
        try:
            # The time-out covers the release too, where a cancelled query is waited for.
            async with pool.acquire(timeout=ACQUIRE_S_MAX) as connection:
                rows = await connection.fetch(sql, *arguments)
        except _AWAY as error:
            if isinstance(error, ValueError):  # an argument that has no encoding: our fault
                raise
            self._note_away(type(error).__name__)
            raise DatabaseAway(type(error).__name__) from error
        except _NOT_MIGRATED as error:
            self._note_back()
            raise SchemaMissing(type(error).__name__) from error
        self._note_back()
        return rows

    async def _answers(self) -> bool:
        """Whether the server says anything to a new connection; one look for all who ask."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(_says_anything(self._database_url))
        return await asyncio.shield(self._looking)

    def _note_silent(self) -> None:
        self._note_away(_SILENT)
        if self._silence is None and self._pool is not None:
            self._silence = asyncio.create_task(self._until_it_answers())

    async def _until_it_answers(self) -> None:
        while not await self._answers():  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S_MAX)
        self._silence = None

    def _note_away(self, cause: str) -> None:
        if not self._is_away:
            log.warning("PostgreSQL does not answer", action="database_away", cause=cause)
        self._is_away = True

    def _note_back(self) -> None:
        if self._is_away:
            log.info("PostgreSQL answers again", action="database_back")
        self._is_away = False

    @property
    def connections(self) -> int:
        """How many are open now."""
        return 0 if self._pool is None else self._pool.get_size()


async def _says_anything(database_url: str) -> bool:
    """Also that it refuses: who asks it then is told so at once."""
    try:
        async with asyncio.timeout(LOOK_S_MAX):
            connection = await asyncpg.connect(database_url, server_settings=_SETTINGS)
    except TimeoutError:
        return False
    except (*_AWAY, *_NOT_MIGRATED):
        return True
    connection.terminate()
    return True


def _forget(fetching: "asyncio.Task[list[asyncpg.Record]]") -> None:
    if not fetching.cancelled():
        fetching.exception()


def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (files("api") / "sql" / f"{name}.sql").read_text()


async def _nothing_to_reset(_connection: Any) -> None:
    """Each statement is a transaction and sets nothing beyond it: spare asyncpg's round trip."""
