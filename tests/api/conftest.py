"""The application on a fresh database, a client that reaches it in memory, and tokens for it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from api.dev_keys import DevKeys, load_or_create
from tests.api.asking import Token, application, client_of, running
from tests.api.rows import ORGANIZATION, Connection, Rows


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> DevKeys:
    return load_or_create(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def token(keys: DevKeys) -> Token:
    """Makes a valid token; every part can be chosen."""

    def sign(
        *,
        organization_id: str = ORGANIZATION,
        user: str = "ada",
        scopes: tuple[str, ...] = ("candidates:read",),
        lifetime: timedelta = timedelta(minutes=5),
    ) -> str:
        return keys.sign(
            organization_id=organization_id, user=user, scopes=scopes, lifetime=lifetime
        )

    return sign


@pytest.fixture
async def superuser(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator[Rows]:
    """Writes as the consumer's role."""
    connection = await asyncpg.connect(
        database_url, timeout=10, server_settings={"role": "funnel_consumer"}
    )
    yield Rows(connection)
    await connection.close(timeout=5)


@pytest.fixture
async def app(database_url: str, keys: DevKeys) -> AsyncIterator[FastAPI]:
    async with running(application(database_url, keys)) as started:
        yield started


@pytest.fixture
def detached(keys: DevKeys) -> httpx2.AsyncClient:
    """Asks, without a token, an application that has no database: who gets in gets a 503."""
    return client_of(application("postgresql://nobody.invalid/none", keys))


@pytest.fixture
async def client(app: FastAPI, token: Token) -> AsyncIterator[httpx2.AsyncClient]:
    """Asks with a valid token of `ORGANIZATION`."""
    async with client_of(app, token()) as asking:
        yield asking
