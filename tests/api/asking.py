"""The application started and asked in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI

from api.app import ApiConfig, create_app
from api.dev_keys import DevKeys
from contract.topics import Topics
from migrations.files import required_version

Token = Callable[..., str]
BASE_URL = "http://funnel.test"
EVENT_SOURCE = "/tests/candidates"
TOPICS = Topics(prefix="api-tests.")


def application(database_url: str, keys: DevKeys) -> FastAPI:
    """The application, not started."""
    return create_app(
        ApiConfig(
            database_url=database_url,
            verifier=keys.verifier(),
            schema_version=required_version(),
            topics=TOPICS,
            event_source=EVENT_SOURCE,
        )
    )


@asynccontextmanager
async def running(app: FastAPI) -> AsyncIterator[FastAPI]:
    """The application between start and stop."""
    async with app.router.lifespan_context(app):
        yield app


async def until(reached: Callable[[], bool]) -> None:
    """Return once it is so, which nothing tells."""
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0)


def client_of(app: FastAPI, token: str | None = None) -> httpx2.AsyncClient:
    """A client in memory; what the application raises is a failed test."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url=BASE_URL, headers=headers, timeout=30
    )


def candidate_path(candidate_id: str) -> str:
    return f"/api/gulf-funnel/candidates/{candidate_id}"


def command_path(command_id: str) -> str:
    return f"/api/gulf-funnel/commands/{command_id}"
