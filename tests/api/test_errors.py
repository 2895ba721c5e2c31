"""Every error is a problem, soon, and tells nothing that it should not."""

import asyncio
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx2
import pytest
import structlog
from fastapi import FastAPI

from api.dev_keys import DevKeys
from api.limits import ACQUIRE_S_MAX, STATEMENT_S_MAX
from tests.api.asking import Token, application, candidate_path, client_of, command_path, running
from tests.api.rows import CANDIDATE, Connection, Rows

ROUTES = [candidate_path(CANDIDATE), command_path("order-1")]


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/api/gulf-funnel/unknown", candidate_path(CANDIDATE) + "/", "/docs/files/no.js"],
)
async def test_unknown_route__is_a_problem(detached: httpx2.AsyncClient, path: str) -> None:
    answer = await detached.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unknown_route"


@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "BREW"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (candidate_path(CANDIDATE), "DELETE, GET, HEAD, PATCH"),
        (command_path("order-1"), "GET, HEAD"),
        ("/livez", "GET, HEAD"),
    ],
)
async def test_other_method__is_405_and_told_which_are_allowed(
    detached: httpx2.AsyncClient, path: str, allowed: str, method: str
) -> None:
    answer = await detached.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["allow"] == allowed
    assert answer.json()["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", [*ROUTES, "/livez", "/nowhere", "/openapi.json", "/docs"])
async def test_every_answer__has_the_headers_of_all_answers(
    detached: httpx2.AsyncClient, path: str
) -> None:
    answer = await detached.get(path)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ("order-17/trace:1", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("two words", False),
        ('"},{"', False),
        ("é", False),
    ],
)
async def test_request_id__is_echoed_if_it_is_valid(
    detached: httpx2.AsyncClient, sent: str, echoed: bool
) -> None:
    headers = {b"x-request-id": sent.encode("latin-1")}

    answer = await detached.get("/livez", headers=headers)
    other = await detached.get("/livez", headers=headers)

    assert (answer.headers["x-request-id"] == sent) is echoed
    assert (answer.headers["x-request-id"] == other.headers["x-request-id"]) is echoed


@pytest.fixture
async def unreachable(database_url: str, keys: DevKeys) -> AsyncIterator[FastAPI]:
    """The application with a database URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    parts = urlsplit(database_url)
    nobody = parts._replace(netloc=f"{parts.username}:secret-password@127.0.0.1:{port}")
    async with running(application(urlunsplit(nobody), keys)) as started:
        yield started


@pytest.mark.parametrize("route", ROUTES)
async def test_database_that_is_down__is_503_and_the_process_lives(
    unreachable: FastAPI, token: Token, route: str
) -> None:
    async with client_of(unreachable, token()) as client:
        answer = await client.get(route, headers={"prefer": "wait=30"})

        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unavailable"
        assert "secret-password" not in answer.text
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize("route", ROUTES)
async def test_database_that_hangs__is_503_within_the_bound(
    client: httpx2.AsyncClient, superuser: Connection, rows: Rows, route: str
) -> None:
    await rows.candidate()
    async with superuser.transaction():
        await superuser.execute("LOCK TABLE candidates, journal IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(ACQUIRE_S_MAX + STATEMENT_S_MAX + 2):
            answers = await asyncio.gather(*(client.get(route) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {503}
    assert (await client.get(candidate_path(CANDIDATE))).status_code == 200


async def test_connections_that_were_cut__are_made_again(
    client: httpx2.AsyncClient, superuser: Connection, rows: Rows
) -> None:
    await rows.candidate()
    await client.get(ROUTES[0])

    cut = await superuser.fetch(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'gulf-funnel api' AND datname = current_database()"
    )

    assert [row[0] for row in cut] == [True]
    assert (await client.get(ROUTES[0])).status_code == 200


async def test_fault_of_ours__is_500_without_a_trace_of_it(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object) -> None:
        raise asyncpg.UniqueViolationError("secret detail")

    monkeypatch.setattr("api.database.Database.fetch", fail)

    with structlog.testing.capture_logs() as records:
        answer = await client.get(ROUTES[0], headers={"x-request-id": "r-1"})

    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r-1"
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "Error" not in answer.json()["detail"]
    failed = [record for record in records if record["action"] == "http_request_failed"]
    assert [record["request_id"] for record in failed] == ["r-1"]


async def test_access_log__has_one_record_a_request_and_no_personal_data(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    state = await rows.candidate()

    with structlog.testing.capture_logs() as records:
        await client.get(ROUTES[0], headers={"x-request-id": "r-1"})
        await client.head("/nowhere?email=zoe@example.ae")

    assert [record["action"] for record in records] == ["http_request"] * 2
    first, second = records
    assert first.pop("milliseconds") > 0
    assert first == {
        "event": "request",
        "log_level": "info",
        "action": "http_request",
        "method": "GET",
        "route": "/api/gulf-funnel/candidates/{candidate_id}",
        "status": 200,
        "request_id": "r-1",
    }
    assert (second["method"], second["route"], second["status"]) == ("HEAD", "other", 404)
    for value in (CANDIDATE, state["email"], "ada"):
        assert value not in str(records)
