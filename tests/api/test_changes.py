"""`GET /changes`: by cursor, by waiting, and as a stream that resumes where it broke off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import orjson
import pytest
from fastapi import FastAPI

from api import changes
from api.changes import BEGINNING
from contract.events import EventBuilder
from domain.identity import home_lane
from tests.api.asking import EVENT_SOURCE, TOPICS, Token, changes_path, client_of, until
from tests.api.rows import (
    CANDIDATE,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    PARTITIONS_TOTAL,
    Connection,
    Rows,
    candidate_state,
)

LANE = home_lane(ORGANIZATION, PARTITIONS_TOTAL)
STREAM = {"accept": "text/event-stream"}


async def write(rows: Rows, *versions: int, **fields: Any) -> None:
    """Changes of this organization, and of another in between, made visible at once."""
    async with rows.connection.transaction():
        for version in versions:
            await rows.changed(version, candidate_state(), lane=LANE, **fields)
            other = candidate_state(organization_id=OTHER_ORGANIZATION)
            await rows.changed(version, other, lane=LANE, **fields)
        await rows.connection.execute(
            "UPDATE lanes SET change_sequence = $2 WHERE lane = $1", LANE, rows.changes[LANE]
        )


@pytest.fixture
async def lanes(rows: Rows) -> Rows:
    await rows.lanes()
    return rows


def versions(items: list[dict[str, Any]]) -> list[int]:
    return [item["data"]["version"] for item in items]


async def test_changes__are_the_published_events_from_a_cursor_on(
    client: httpx2.AsyncClient, lanes: Rows
) -> None:
    row = await lanes.changed(1, candidate_state(), lane=LANE, traceparent="00-a-b-01")
    published = EventBuilder(TOPICS, EVENT_SOURCE).change(row)
    await write(lanes, 2, 3, 4)

    first = (await client.get(changes_path("limit=2"))).json()
    rest = (await client.get(changes_path(f"after={first['next_cursor']}"))).json()
    end = await client.get(changes_path(f"after={rest['next_cursor']}"))

    assert versions(first["items"] + rest["items"]) == [1, 2, 3, 4]
    assert first["items"][-1]["cursor"] == first["next_cursor"]
    event = first["items"][0]
    assert orjson.dumps(event.pop("data")) == published.value
    del event["cursor"], event["datacontenttype"]
    assert event == {
        name.removeprefix("ce_"): (value or b"").decode()
        for name, value in published.headers
        if name != "content-type"
    }
    assert end.json() == {"items": [], "next_cursor": rest["next_cursor"]}
    assert end.links["next"]["url"].endswith(f"after={rest['next_cursor']}")
    now = (await client.get(changes_path("after=now"))).json()
    assert now == {"items": [], "next_cursor": rest["next_cursor"]}


async def test_erased_changes__are_events_without_data(
    client: httpx2.AsyncClient, lanes: Rows
) -> None:
    await write(lanes, 1)
    await write(lanes, 2, change=None)
    await write(lanes, 3, change=None, command_type="candidate.erase.v1", previous_version=None)

    items = (await client.get(changes_path())).json()["items"]

    assert [item["data"] is None for item in items] == [False, True, True]
    assert {item["type"] for item in items[1:]} == {"candidate.erased.v1"}
    assert {item["subject"] for item in items} == {CANDIDATE}


async def test_waiting__ends_with_the_change_and_costs_one_look_for_all(
    app: FastAPI, client: httpx2.AsyncClient, lanes: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = app.state.changes
    looks: list[int] = []
    look = waits._changes

    async def counted(organizations: Any) -> Any:
        looks.append(len(organizations))
        return await look(organizations)

    waits._changes = counted
    asking = [
        asyncio.create_task(client.get(changes_path(), headers={"prefer": "wait=30"}))
        for _ in range(20)
    ]
    await until(lambda: waits.total == 20 and all(wait.seen >= 0 for wait in waits._waits))
    looked = len(looks)
    await write(lanes, 1)
    answers = await asyncio.gather(*asking)

    assert [versions(answer.json()["items"]) for answer in answers] == [[1]] * 20
    assert answers[0].headers["preference-applied"] == "wait=30"
    assert looks[looked:] == [1]


async def test_waiting__ends_with_its_time_and_with_the_process(
    app: FastAPI, client: httpx2.AsyncClient, lanes: Rows
) -> None:
    late = await client.get(changes_path(), headers={"prefer": "wait=1"})
    asking = asyncio.create_task(client.get(changes_path(), headers={"prefer": "wait=30"}))
    await until(lambda: app.state.changes.total == 1)
    app.state.changes.end_all()

    assert late.json()["items"] == (await asking).json()["items"] == []


async def test_cursor__older_than_the_journal_is_410(
    app: FastAPI, client: httpx2.AsyncClient, lanes: Rows
) -> None:
    await write(lanes, 1)
    old = datetime.now(UTC) - timedelta(days=70)
    feed = changes.Feed(app.state.read_tools, app.state.changes, EventBuilder(TOPICS))
    expired = feed.cursor(ORGANIZATION, BEGINNING._replace(sequence=9, recorded_at=old))
    foreign = feed.cursor(OTHER_ORGANIZATION, BEGINNING)

    assert (await client.get(changes_path(f"after={expired}"))).status_code == 410
    for query in (f"after={foreign}", "after=x", "after=", "limit=0", "limit=101", "x=1"):
        assert (await client.get(changes_path(query))).status_code == 400
    answer = await client.get(changes_path(), headers=STREAM | {"last-event-id": "x"})
    assert answer.json()["errors"][0]["pointer"] == "/header/last-event-id"


@asynccontextmanager
async def stream(
    client: httpx2.AsyncClient, query: str = "", **headers: str
) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    async with client.stream(
        "GET", changes_path(query), headers=STREAM | headers, timeout=30
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield events(answer)


async def events(answer: httpx2.Response) -> AsyncIterator[dict[str, str]]:
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line:
            event[name] = value
        elif "data" in event:
            yield event
            event = {}
        else:
            event = {}


async def take(frames: AsyncIterator[dict[str, str]], total: int) -> list[dict[str, str]]:
    async with asyncio.timeout(20):
        return [await anext(frames) for _ in range(total)]


async def test_stream__resumes_with_no_gap_and_no_repeat(
    over_the_wire: httpx2.AsyncClient, lanes: Rows
) -> None:
    await write(lanes, 1, 2)
    seen: list[dict[str, str]] = []
    resume: dict[str, str] = {}

    for number in range(3):
        async with stream(over_the_wire, **resume) as frames:
            seen += await take(frames, 1)
            await write(lanes, 3 + number)
        resume = {"last-event-id": seen[-1]["id"]}
    async with stream(over_the_wire, **resume) as frames:
        seen += await take(frames, 2)

    assert versions([orjson.loads(each["data"]) for each in seen]) == [1, 2, 3, 4, 5]
    assert {each["event"] for each in seen[1:]} == {"candidate.updated.v1"}
    pages = (await over_the_wire.get(changes_path())).json()["items"]
    assert [item["cursor"] for item in pages] == [each["id"] for each in seen]
    head = await over_the_wire.head(changes_path(), headers=STREAM)
    assert (head.status_code, head.content) == (200, b"")


async def test_silent_stream__beats_and_ends_with_its_client_and_with_the_process(
    served: tuple[FastAPI, str],
    over_the_wire: httpx2.AsyncClient,
    lanes: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits = served[0].state.changes
    monkeypatch.setattr(changes, "STREAM_BEAT_S", 0.05)
    async with over_the_wire.stream("GET", changes_path(), headers=STREAM) as answer:
        lines = answer.aiter_lines()
        beats = [await anext(lines) for _ in range(6)]
        assert beats[2:] == [": still here", ""] * 2
    monkeypatch.setattr(changes, "STREAM_BEAT_S", 30.0)
    await until(lambda: waits.total == 0)

    async with stream(over_the_wire) as frames:
        await until(lambda: waits.total == 1)
        waits.end_all()
        assert [event async for event in frames] == []


async def test_stream__ends_when_the_database_goes_and_is_told_at_the_next_try(
    over_the_wire: httpx2.AsyncClient, lanes: Rows, superuser: Connection
) -> None:
    async with stream(over_the_wire) as frames:
        await superuser.execute("REVOKE SELECT ON lanes FROM funnel_api")
        assert [event async for event in frames] == []
    await superuser.execute("REVOKE SELECT ON journal FROM funnel_api")

    again = await over_the_wire.get(changes_path(), headers=STREAM)

    assert again.status_code == 503
    assert again.headers["content-type"] == "application/problem+json"


async def test_full__is_503(app: FastAPI, token: Token, lanes: Rows) -> None:
    app.state.changes._waits_max = 0
    async with client_of(app, token()) as client:
        for headers in (STREAM, {"prefer": "wait=1"}):
            assert (await client.get(changes_path(), headers=headers)).status_code == 503


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream;q=0.9, */*;q=0.1", True),
        ("text/event-stream;q=0.2, application/json", False),
        ("text/event-stream; charset=utf-8; q=0.2, application/*;q=0.3", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0, */*", False),
        ("text/*, application/json;q=0.5", False),
        ("*/*", False),
        ("application/json", False),
    ],
)
async def test_stream__is_for_who_wants_it_more_than_json(
    app: FastAPI, client: httpx2.AsyncClient, lanes: Rows, accept: str, streams: bool
) -> None:
    app.state.changes.end_all()  # a stream ends as soon as it has begun

    answer = await client.get(changes_path(), headers={"accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream") is streams
