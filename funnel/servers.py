"""Where PostgreSQL and Kafka are: as set, else the embedded ones that run in the data folder.

So the commands that `funnel up` prints work in another terminal with nothing to export.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import asyncpg
from pydantic import SecretStr

from funnel.settings import BadSettings, Settings

CONNECT_S_MAX = 10.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class DatabaseAway(Exception):
    """PostgreSQL cannot be reached."""


@contextmanager
def reaching_database() -> Iterator[None]:
    """What says within that PostgreSQL is away becomes `DatabaseAway`."""
    try:
        yield
    except (OSError, asyncpg.PostgresConnectionError) as error:
        cause = str(error) or "no answer in time"
        raise DatabaseAway(f"PostgreSQL cannot be reached: {cause}") from error


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[Connection]:
    """One connection for a question or two.

    Raises:
        DatabaseAway: no connection.
    """
    with reaching_database():
        connection = await asyncpg.connect(
            url, timeout=CONNECT_S_MAX, command_timeout=CONNECT_S_MAX
        )
    try:
        yield connection
    finally:
        connection.terminate()


def located(settings: Settings) -> Settings:
    """`settings` that say where both servers are.

    Raises:
        BadSettings: they do not say it, and no embedded server runs.
    """
    return settings.model_copy(
        update={
            "database_url": SecretStr(database_url(settings)),
            "kafka_bootstrap_servers": kafka_options(settings)["bootstrap_servers"],
        }
    )


def database_url(settings: Settings) -> str:
    """The URL of the database.

    Raises:
        BadSettings: DATABASE_URL is not set and no embedded server runs.
    """
    told = settings.database_url.get_secret_value()
    if told:
        return told
    from stack.embedded import EmbeddedStack

    server = EmbeddedStack(settings.data_dir).postgres
    if not server.status().running:
        raise _nowhere("DATABASE_URL", settings)
    return server.url


def kafka_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of every aiokafka client.

    Raises:
        BadSettings: KAFKA_BOOTSTRAP_SERVERS is not set and no embedded server runs.
    """
    options = settings.kafka_options()
    if settings.kafka_bootstrap_servers:
        return options
    from stack.embedded import EmbeddedStack

    server = EmbeddedStack(settings.data_dir).kafka
    if not server.status().running:
        raise _nowhere("KAFKA_BOOTSTRAP_SERVERS", settings)
    return options | {"bootstrap_servers": server.bootstrap_servers}


def _nowhere(name: str, settings: Settings) -> BadSettings:
    return BadSettings(
        f"{name}: is not set, and no embedded server runs in {settings.data_dir} "
        "(`funnel stack start` starts one)"
    )
