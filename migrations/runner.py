"""Brings a database to the schema of this code; safe to run from many places at once.

One runner at a time holds an advisory lock, and under it believes only `schema_migrations`. A
migration and its version are one transaction, so a lost answer to COMMIT is cured by looking
again. Needs a session of its own: not through a pooler in transaction mode.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

import asyncpg

from migrations.errors import DatabaseAway, LockBusy, MigrationFailed, SchemaOutOfDate
from migrations.files import Migration, read_migrations, required_version

__all__ = ["MigrationStatus", "assert_migrated", "migrate_up", "required_version", "status"]

ATTEMPTS_MAX = 5
"""Lost connections survived; with the pauses between, a few seconds of a restarting server."""

RETRY_PAUSE_S_MAX = 1.0
LOCK_S_MAX = 300.0
"""How long another runner may build an index; a guess."""

LOCK_POLL_S = 0.1

TABLE_LOCK_S_MAX = 10
"""How long a migration may queue for a table: behind it, every reader and writer queues too."""

COMMIT_S_MAX = 60.0
"""A COMMIT has little to do, but to wait for a synchronous replica; a guess."""

CONNECT_S_MAX = 10.0

CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
)

Report = Callable[[str], None]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration in one database; `name` is empty where only the database knows it."""

    version: str
    name: str
    applied: bool


async def migrate_up(database_url: str, *, report: Report) -> list[str]:
    """Apply what is missing, oldest first; make the database if there is none.

    Returns:
        The versions that this call applied, as far as PostgreSQL answered.

    Raises:
        MigrationFailed: PostgreSQL refused one; those before it stay.
        LockBusy: another runner held the lock for `LOCK_S_MAX` seconds.
        DatabaseAway: no connection, or lost `ATTEMPTS_MAX` times.
        asyncpg.PostgresError: PostgreSQL does not let us in.
    """
    migrations = read_migrations()
    applied: list[str] = []
    for attempts_left in reversed(range(ATTEMPTS_MAX)):
        try:
            async with _session(database_url) as connection:
                await _lock(connection, report)
                await connection.execute(_sql("bookkeeping"))
                known = await _applied_versions(connection)
                for migration in migrations:
                    if migration.version not in known:
                        report(f"migrating: {migration.version} {migration.name}")
                        await _apply(connection, migration)
                        applied.append(migration.version)
            return applied
        except CONNECTION_LOST as error:
            said = str(error) or type(error).__name__
            if not attempts_left:
                raise DatabaseAway(said=said) from error
            report(f"no connection to PostgreSQL ({said}); trying again")
            await asyncio.sleep(random.uniform(0.1, RETRY_PAUSE_S_MAX))
    raise AssertionError("the last attempt returns or raises")


async def status(database_url: str) -> list[MigrationStatus]:
    """Every migration of this code and of the database, oldest first.

    Raises:
        DatabaseAway: no connection.
        asyncpg.PostgresError: PostgreSQL does not let us in.
    """
    try:
        connection = await _connect(database_url)
    except asyncpg.InvalidCatalogNameError:
        known: set[str] = set()
    except CONNECTION_LOST as error:
        raise DatabaseAway(said=str(error)) from error
    else:
        known = await _applied_versions(connection)
        connection.terminate()
    names = {migration.version: migration.name for migration in read_migrations()}
    return [
        MigrationStatus(version=version, name=names.get(version, ""), applied=version in known)
        for version in sorted(names.keys() | known)
    ]


async def assert_migrated(connection: Connection) -> None:
    """Check that the database has all that this code needs; it may have more.

    Raises:
        SchemaOutOfDate: it lacks a migration.
    """
    known = await _applied_versions(connection)
    if missing := [each.version for each in read_migrations() if each.version not in known]:
        raise SchemaOutOfDate(missing=missing)


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if not migration.transactional:
            await connection.execute(migration.up)
            await connection.execute(_sql("record_version"), migration.version)
            return
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(migration.up)
        await connection.execute(_sql("record_version"), migration.version)
        # Only a network that swallows the answer makes it long; then the next session looks.
        async with asyncio.timeout(COMMIT_S_MAX):
            await transaction.commit()
    except CONNECTION_LOST:
        raise
    except asyncpg.PostgresError as error:
        raise MigrationFailed(version=migration.version, said=str(error)) from error


async def _applied_versions(connection: Connection) -> set[str]:
    try:
        rows = await connection.fetch(_sql("applied_versions"))
    except asyncpg.UndefinedTableError:
        return set()
    return {row["version"] for row in rows}


async def _lock(connection: Connection, report: Report) -> None:
    """Take the session's lock; it ends with the session, however that ends."""
    started = time.monotonic()
    while not await connection.fetchval(_sql("try_lock")):
        waited_s = time.monotonic() - started
        if waited_s > LOCK_S_MAX:
            raise LockBusy(waited_s=waited_s)
        if waited_s < LOCK_POLL_S:
            report("another migration is running; waiting for it")
        await asyncio.sleep(LOCK_POLL_S)


@asynccontextmanager
async def _session(database_url: str) -> AsyncIterator[Connection]:
    try:
        connection = await _connect(database_url)
    except asyncpg.InvalidCatalogNameError:
        await _create_database(database_url)
        connection = await _connect(database_url)
    try:
        yield connection
    finally:
        connection.terminate()  # takes the lock with it, and cannot fail


async def _connect(database_url: str, *, database: str | None = None) -> Connection:
    return await asyncpg.connect(
        database_url,
        database=database,
        timeout=CONNECT_S_MAX,
        server_settings={
            "application_name": "funnel migrate",
            "lock_timeout": f"{TABLE_LOCK_S_MAX}s",
        },
    )


async def _create_database(database_url: str) -> None:
    name = unquote(urlsplit(database_url).path.removeprefix("/"))
    connection = await _connect(database_url, database="postgres")
    try:
        await connection.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return  # another runner made it at the same moment
    finally:
        connection.terminate()


def _sql(name: str) -> str:
    return (Path(__file__).parent / "sql" / f"{name}.sql").read_text()
