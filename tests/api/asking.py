"""The application started and asked in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from fastapi import FastAPI

from api.app import ApiConfig, create_app
from api.cursors import Cursors
from api.dev_keys import DevKeys
from api.ports import CommandToSend, DeadLettersWanted, DeskAway, SenderAway
from api.queries import Position
from api.rates import WriteLimit
from contract.dead_letters import DeadLetterId
from contract.topics import Topics
from domain.commands import CommandParser
from migrations.files import required_version

Token = Callable[..., str]
BASE_URL = "http://funnel.test"
EVENT_SOURCE = "/tests/candidates"
TOPICS = Topics(prefix="api-tests.")


class NoSender:
    """Where Kafka is away from the beginning."""

    is_away = True

    async def send(self, command: CommandToSend) -> Position:  # noqa: ARG002
        raise SenderAway


class NoDesk:
    """Where nobody works dead letters."""

    async def page(self, wanted: DeadLettersWanted) -> list[Any]:  # noqa: ARG002
        raise DeskAway

    async def redrive(self, letter_id: DeadLetterId, **_: Any) -> dict[str, Any]:  # noqa: ARG002
        raise DeskAway


def application(database_url: str, keys: DevKeys, **config: Any) -> FastAPI:
    """The application, not started; by default without Kafka."""
    told: dict[str, Any] = {
        "database_url": database_url,
        "verifier": keys.verifier(),
        "schema_version": required_version(),
        "topics": TOPICS,
        "event_source": EVENT_SOURCE,
        "sender": NoSender(),
        "desk": NoDesk(),
        "parser": CommandParser(),
        "write_limit": WriteLimit("off"),
        "cursors": Cursors("of the tests"),
    }
    return create_app(ApiConfig(**told | config))


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


def all_candidates_path() -> str:
    return "/api/gulf-funnel/candidates"


def list_path(query: str = "") -> str:
    return f"/api/gulf-funnel/candidates?{query}"


def history_path(candidate_id: str) -> str:
    return f"{candidate_path(candidate_id)}/history"


def changes_path(query: str = "") -> str:
    return f"/api/gulf-funnel/changes?{query}"
