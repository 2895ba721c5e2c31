"""The application on a fresh database, a client that reaches it in memory, and tokens for it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from api.dev_keys import DevKeys, load_or_create
from api.unreadable import HttpProtocol
from contract.topics import Topics
from producer.admin import apply_topics, delete_topics
from stack.servers import Servers
from tests.api.asking import Token, application, client_of, running, until
from tests.api.rows import ORGANIZATION, Connection, Rows
from tests.api.world import World, open_world
from tests.conftest import PARTITIONS_TOTAL, url_of


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


@pytest.fixture(scope="session")
async def world(
    servers: Servers,
    template_database: str,
    kafka_options: dict[str, Any],
    keys: DevKeys,
    token: Token,
) -> AsyncIterator[World]:
    """The deployment that all tests of writes share; they keep to organizations of their own."""
    name = f"test_{uuid4().hex[:12]}"
    topics = Topics(prefix=f"t{uuid4().hex[:12]}.")
    postgres = await asyncpg.connect(url_of(servers, "postgres"))
    await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    await apply_topics(kafka_options, topics, partitions_total=PARTITIONS_TOTAL)
    async with open_world(
        database_url=url_of(servers, name),
        kafka=kafka_options,
        topics=topics,
        keys=keys,
        token=token,
    ) as shared:
        yield shared
    await delete_topics(kafka_options, topics)
    await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await postgres.close()


@pytest.fixture
async def writer(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    """Asks the whole service, as a user of a new organization with every scope."""
    async with world.client() as asking:
        yield asking


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


@pytest.fixture
async def served(database_url: str, keys: DevKeys) -> AsyncIterator[tuple[FastAPI, str]]:
    """The application behind uvicorn, and its URL."""
    app = application(database_url, keys)
    server = uvicorn.Server(uvicorn.Config(app, http=HttpProtocol, log_config=None, lifespan="on"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        yield app, f"http://127.0.0.1:{listening.getsockname()[1]}"
        app.state.waits.end_all()
        app.state.changes.end_all()
        server.should_exit = True
        await serving


@pytest.fixture
async def over_the_wire(
    served: tuple[FastAPI, str], token: Token
) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"authorization": f"Bearer {token()}"}
    async with httpx2.AsyncClient(base_url=served[1], headers=headers) as client:
        yield client
