"""What the API says of its database when it goes and comes."""

import asyncio
import time

import httpx2
import pytest
from structlog.testing import capture_logs

from api.app import BASE_PATH
from api.database import Database, DatabaseAway
from api.dev_keys import DevKeys
from api.limits import LOOK_S_MAX, PATIENCE_S
from funnel.dead_letter_desk import Desk
from funnel.redriving import RedriveSender
from producer.forward import Forwarder
from stack.embedded import EmbeddedStack
from tests.api.asking import (
    TOPICS,
    Token,
    application,
    candidate_path,
    client_of,
    list_path,
    running,
)
from tests.api.rows import CANDIDATE, Rows

AT_ONCE_S = 1.0
"""A generous bound of what takes milliseconds, beside the bounds that are tested."""


async def test_database__away_and_back_are_one_record_each(database_url: str) -> None:
    database = Database("postgresql://x@127.0.0.1:1/x")
    with capture_logs() as logged:
        async with database.opened():
            for _ in range(2):
                with pytest.raises(DatabaseAway):
                    await database.fetch("SELECT 1")
        database._database_url = database_url  # the server is back
        async with database.opened():
            for _ in range(2):
                await database.fetch("SELECT 1")

    assert [each["action"] for each in logged] == ["database_away", "database_back"]


async def test_server_that_is_frozen__is_503_soon_then_at_once_and_back_by_itself(
    client: httpx2.AsyncClient, rows: Rows, server_stack: EmbeddedStack
) -> None:
    await rows.candidate()
    paths = (candidate_path(CANDIDATE), list_path(), "/readyz")
    for path in paths:  # over connections that are open already
        await client.get(path)

    async def refused(path: str) -> float:
        started = time.perf_counter()
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        return time.perf_counter() - started

    server_stack.postgres.pause()
    try:
        first = await asyncio.gather(*(refused(path) for path in paths for _ in range(20)))
        after = await asyncio.gather(*(refused(path) for path in paths for _ in range(20)))
    finally:
        server_stack.postgres.resume()
    assert max(first) < PATIENCE_S + LOOK_S_MAX + AT_ONCE_S
    assert max(after) < AT_ONCE_S

    async with asyncio.timeout(30):
        while (await client.get(paths[0])).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_server_that_is_frozen__is_soon_503_for_operators_too(
    database_url: str, keys: DevKeys, token: Token, server_stack: EmbeddedStack
) -> None:
    """The desk of dead letters has connections of its own."""
    letters = f"{BASE_PATH}/dead-letters"
    kafka = {"bootstrap_servers": "nobody.invalid:1"}  # it is not asked
    sender = RedriveSender(Forwarder(kafka=kafka, topic=TOPICS.commands))
    async with Desk(database_url, sender).running() as desk:
        app = application(database_url, keys, desk=desk)
        operator = token(scopes=("platform:operate",))
        async with running(app), client_of(app, operator) as asking:
            assert (await asking.get(letters)).status_code == 200
            server_stack.postgres.pause()
            try:
                for within in (PATIENCE_S + LOOK_S_MAX + AT_ONCE_S, AT_ONCE_S):
                    started = time.perf_counter()
                    assert (await asking.get(letters)).status_code == 503
                    assert time.perf_counter() - started < within
            finally:
                server_stack.postgres.resume()
            async with asyncio.timeout(30):
                while (await asking.get(letters)).status_code != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def test_statement_that_is_slow__is_waited_for_beside_a_server_that_answers(
    database_url: str,
) -> None:
    database = Database(database_url)
    async with database.opened():
        slow, quick = await asyncio.gather(
            database.fetch("SELECT pg_sleep($1)", PATIENCE_S + 0.5), database.fetch("SELECT 1")
        )
        assert len(slow) == len(quick) == 1
        with pytest.raises(DatabaseAway):
            await database.fetch("SELECT pg_sleep(60)")
        assert await database.fetch("SELECT 1")
