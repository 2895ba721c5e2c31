"""`GET /commands/{id}` on real rows."""

import asyncio
from datetime import timedelta
from urllib.parse import quote

import httpx2
import orjson
import pytest
from fastapi import FastAPI

from contract.events import EventBuilder
from contract.journal import JournalRow, timestamp_text
from tests.api.asking import EVENT_SOURCE, TOPICS, command_path, until
from tests.api.rows import NOW, ORGANIZATION, OTHER_ORGANIZATION, Rows

COMMAND = "0193b1c0-0000-7000-8000-0000000000d1"
PATH = command_path(COMMAND)
DUPLICATE = {"original": {"id": "results/0/1", "outcome": "applied", "version": 2}}
INVALID = {
    "detail": "The command breaks the rules listed in errors.",
    "errors": [{"pointer": "/changes/email", "code": "malformed", "detail": "Bad."}],
}


def event_data(row: JournalRow) -> bytes | None:
    """What the result event of this row carries."""
    return EventBuilder(TOPICS, EVENT_SOURCE).result(row).value


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"outcome": "unchanged", "previous_version": 2},
        {"command_type": "candidate.create.v1", "version": 1, "previous_version": None},
        {
            "outcome": "rejected",
            "reason": "version_conflict",
            "version": None,
            "previous_version": None,
            "details": orjson.dumps({"current_version": 9, "fields": ["email"]}),
        },
        {"outcome": "rejected", "reason": "invalid", "details": orjson.dumps(INVALID)},
        {"traceparent": "00-1-1-01", "candidate_id": None, "change_sequence": 3},
    ],
)
async def test_settled_command__is_its_result_event_to_the_byte(
    client: httpx2.AsyncClient, rows: Rows, fields: dict[str, object]
) -> None:
    row = await rows.settled(COMMAND, **fields)

    answer = await client.get(PATH)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == event_data(row)


async def test_command_sent_again__keeps_its_first_answer(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    first = await rows.settled(COMMAND)
    later = {"recorded_at": NOW + timedelta(seconds=5)}
    await rows.settled(
        COMMAND, identity=None, outcome="duplicate", details=orjson.dumps(DUPLICATE), **later
    )
    await rows.settled(COMMAND, identity=None, outcome="rejected", reason="id_reused", **later)
    await rows.settled(COMMAND, outcome="rejected", reason="too_old", **later)

    assert (await client.get(PATH)).content == event_data(first)


async def test_command__without_source_is_the_newest_of_any_source(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.settled(COMMAND, command_source="/old", version=3)
    newest = await rows.settled(
        COMMAND, command_source="/new", version=4, recorded_at=NOW + timedelta(seconds=1)
    )
    await rows.settled(COMMAND, command_source="/older", version=5)

    assert (await client.get(PATH)).content == event_data(newest)


async def test_command__with_source_is_that_source_only(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    wanted = await rows.settled(COMMAND, command_source="/a b&c", version=3)
    await rows.settled(COMMAND, command_source="/new", recorded_at=NOW + timedelta(seconds=1))

    found = await client.get(PATH, params={"source": "/a b&c"})
    unknown = await client.get(PATH, params={"source": "/unknown"})

    assert found.content == event_data(wanted)
    assert unknown.status_code == 404


@pytest.mark.parametrize("command_id", ["a/b", "order 17?#%", "ё" * 200, ".", "x" * 200])
async def test_command__is_found_whatever_its_id_looks_like(
    client: httpx2.AsyncClient, rows: Rows, command_id: str
) -> None:
    row = await rows.settled(command_id)

    answer = await client.get(command_path(quote(command_id, safe="").replace(".", "%2E")))

    assert answer.content == event_data(row)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        (command_path("x" * 201), "/path/command_id"),
        (command_path(""), "/path/command_id"),
        (command_path("a%00b"), "/path/command_id"),
        (f"{PATH}?source=", "/query/source"),
        (f"{PATH}?source=%00", "/query/source"),
        (f"{PATH}?position=1", "/query/position"),
        (f"{PATH}?position=-1:2", "/query/position"),
        (f"{PATH}?position=1:9223372036854775808", "/query/position"),
        (f"{PATH}?position=2147483648:1", "/query/position"),
        (f"{PATH}?unknown=1", "/query/unknown"),
    ],
)
async def test_invalid_question__is_400_and_says_where(
    client: httpx2.AsyncClient, path: str, pointer: str
) -> None:
    answer = await client.get(path)

    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_command__whose_turn_has_not_come_is_pending_with_the_lag(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=40)

    answer = await client.get(PATH, params={"position": "2:41"})

    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    assert answer.json() == {
        "command_id": COMMAND,
        "organization_id": ORGANIZATION,
        "outcome": "pending",
        "lag": 2,
    }


@pytest.mark.parametrize("position", ["2:39", "7:0", None])
async def test_command__that_nothing_tells_of_is_404(
    client: httpx2.AsyncClient, rows: Rows, position: str | None
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=40)

    answer = await client.get(PATH, params={} if position is None else {"position": position})

    assert answer.status_code == 404
    assert answer.json()["detail"] == "Command not found."


@pytest.mark.parametrize("command_id", [None, COMMAND])
async def test_dead_letter_at_the_position__is_told(
    client: httpx2.AsyncClient, rows: Rows, command_id: str | None
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=42)
    row = await rows.dead_letter(lane=2, source_offset=41, command_id=command_id)

    answer = await client.get(PATH, params={"position": "2:41"})

    assert answer.status_code == 200
    assert answer.json() == {
        "command_id": COMMAND,
        "organization_id": ORGANIZATION,
        "outcome": "dead_lettered",
        "error_code": "unknown_type",
        "detail": "No such type.",
        "sequence": row.result_sequence,
        "recorded_at": timestamp_text(row.recorded_at),
    }


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"organization_id": OTHER_ORGANIZATION},
        {"organization_id": None},
        {"command_id": "another"},
        {"source_offset": 40},
        {"lane": 1},
        {"kind": "reroute"},
    ],
)
async def test_dead_letter__of_something_else_is_not(
    client: httpx2.AsyncClient, rows: Rows, elsewhere: dict[str, object]
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=42)
    await rows.dead_letter(**({"lane": 2, "source_offset": 41} | elsewhere))

    assert (await client.get(PATH, params={"position": "2:41"})).status_code == 404


async def test_dead_letter__that_was_redriven_and_settled_is_settled(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.dead_letter(lane=2, source_offset=41, command_id=COMMAND)
    row = await rows.settled(COMMAND)

    answer = await client.get(PATH, params={"position": "2:41"})

    assert answer.content == event_data(row)


@pytest.mark.parametrize("prefer", ["wait=20", "respond-async, Wait=20; x=y", 'wait="20"'])
async def test_wait__ends_when_the_command_is_settled(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows, prefer: str
) -> None:
    asking = asyncio.create_task(client.get(PATH, headers={"prefer": prefer}))
    await until(lambda: app.state.waits.total == 1)

    row = await rows.settled(COMMAND)
    answer = await asking

    assert answer.content == event_data(row)
    assert answer.headers["preference-applied"] == "wait=20"


async def test_wait__answers_pending_when_its_time_is_up(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.lanes()

    answer = await client.get(PATH, params={"position": "0:0"}, headers={"prefer": "wait=1"})

    assert (answer.status_code, answer.json()["lag"]) == (202, 1)
    assert answer.headers["preference-applied"] == "wait=1"


async def test_wait__tells_the_lag_at_its_end_and_not_at_its_beginning(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.lanes()
    asking = asyncio.create_task(
        client.get(PATH, params={"position": "0:9"}, headers={"prefer": "wait=1"})
    )
    await until(lambda: app.state.waits.total == 1)

    await rows.move_lane(0, next_offset=4)

    assert (await asking).json()["lag"] == 6


@pytest.mark.parametrize("prefer", ["", "wait", "wait=", "wait=soon", "wait=-1", "return=minimal"])
async def test_wait__is_not_applied_when_nobody_asks_for_it(
    client: httpx2.AsyncClient, prefer: str
) -> None:
    answer = await client.get(PATH, headers={"prefer": prefer})

    assert answer.status_code == 404
    assert "preference-applied" not in answer.headers


async def test_wait__is_answered_when_the_process_stops(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.lanes()
    asking = asyncio.create_task(
        client.get(PATH, params={"position": "0:9"}, headers={"prefer": "wait=30"})
    )
    await until(lambda: app.state.waits.total == 1)

    app.state.waits.end_all()

    assert (await asking).status_code == 202
