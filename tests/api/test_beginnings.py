"""The address of a bulk operation that was not taken on in time: never wrong, whatever follows."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest
from fastapi import FastAPI

from domain.commands import BULK_UPDATE
from domain.identity import Identity, operation_id_of
from domain.limits import BULK_INLINE_ITEMS_MAX
from tests.api.asking import Token, all_candidates_path, client_of
from tests.api.rows import ORGANIZATION, OTHER_ORGANIZATION, SOURCE, Rows

BULK = f"{all_candidates_path()}/bulk-update"
OPERATIONS = "/api/gulf-funnel/bulk-operations"
CHANGES = {"field": "rating", "value": 3}
COMMAND = "order-18"
OPERATION = operation_id_of(Identity(ORGANIZATION, SOURCE, COMMAND).key)
PATH = f"{OPERATIONS}/{OPERATION}"
TOKENS = {"command_id": COMMAND, "source": SOURCE, "position": "2:41"}
BY_COMMAND = {"command_type": BULK_UPDATE, "candidate_id": None, "version": None}


@pytest.mark.parametrize(
    "whom",
    [
        {"candidate_ids": [str(uuid4()) for _ in range(BULK_INLINE_ITEMS_MAX + 1)]},
        {"filter": {"source": "nobody"}},
    ],
)
async def test_operation__not_taken_on_in_time_is_followed_by_its_location(
    writer: httpx2.AsyncClient, whom: dict[str, Any]
) -> None:
    asked = {"idempotency-key": "order 18/&x=1", "prefer": "wait=0"}
    answer = await writer.post(BULK, json=whom | CHANGES, headers=asked)

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    location = answer.headers["location"]
    assert location.partition("?")[0] == f"{OPERATIONS}/{answer.json()['operation_id']}"
    assert answer.headers["retry-after"] == "1"

    followed = [await writer.get(location)]
    async with asyncio.timeout(20):
        while followed[-1].status_code == 202:
            followed.append(await writer.get(location))
    assert followed[-1].status_code == 200
    assert followed[-1].json()["operation_id"] == answer.json()["operation_id"]
    assert {each.json()["status"] for each in followed[:-1]} <= {"pending"}


async def test_inline_bulk__not_settled_in_time_is_followed_by_its_command(
    writer: httpx2.AsyncClient,
) -> None:
    one = str(uuid4())
    body = {"candidate_ids": [one, one.upper()] * BULK_INLINE_ITEMS_MAX, **CHANGES}

    answer = await writer.post(BULK, json=body, headers={"prefer": "wait=0"})

    assert answer.status_code == 202
    told = await writer.get(answer.headers["location"], headers={"prefer": "wait=20"})
    assert (told.json()["outcome"], told.json()["counts"]["not_found"]) == ("unchanged", 1)


async def test_operation__whose_commands_turn_has_not_come_is_pending_with_the_lag(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=40)

    answer = await client.get(PATH, params=TOKENS)

    assert (answer.status_code, answer.headers["retry-after"]) == (202, "1")
    assert answer.json() == {
        "organization_id": ORGANIZATION,
        "operation_id": OPERATION,
        "command_id": COMMAND,
        "status": "pending",
        "lag": 2,
    }
    for path in (PATH, f"{PATH}?command_id={COMMAND}&source={SOURCE}"):
        assert (await client.get(path)).json()["code"] == "not_found", path


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"outcome": "rejected", "reason": "too_many"}, "too_many"),
        (
            {
                "outcome": "rejected",
                "reason": "invalid",
                "details": orjson.dumps(
                    {"errors": [{"pointer": "/changes", "code": "malformed", "detail": "No."}]}
                ),
            },
            "invalid_request",
        ),
        ({"outcome": "accepted"}, "not_found"),  # and kept no longer
    ],
)
async def test_operation__that_never_began_is_404_and_says_why(
    client: httpx2.AsyncClient, rows: Rows, fields: dict[str, Any], code: str
) -> None:
    await rows.lanes()
    await rows.move_lane(2, next_offset=42)
    await rows.settled(COMMAND, **BY_COMMAND | {"operation_id": OPERATION} | fields)

    answer = await client.get(PATH, params=TOKENS)

    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert [error["pointer"] for error in answer.json()["errors"]] == (
        ["/changes"] if code == "invalid_request" else []
    )


async def test_address__of_another_operation_or_organization_is_that_of_nothing(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows, token: Token
) -> None:
    await rows.lanes()
    async with client_of(app, token(organization_id=OTHER_ORGANIZATION)) as stranger:
        theirs = await stranger.get(PATH, params=TOKENS)
    other = await client.get(f"{OPERATIONS}/{uuid4()}", params=TOKENS)
    nowhere = await client.get(f"{OPERATIONS}/{uuid4()}")

    assert theirs.status_code == other.status_code == nowhere.status_code == 404
    assert theirs.content == other.content == nowhere.content


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"position": "2"}, "/query/position"),
        ({"position": "2:9223372036854775808"}, "/query/position"),
        ({"source": ""}, "/query/source"),
        ({"command_id": "x" * 201}, "/query/command_id"),
        ({"command_id": "\0"}, "/query/command_id"),
        ({"unknown": "1"}, "/query/unknown"),
    ],
)
async def test_bad_address__is_400_and_says_where(
    client: httpx2.AsyncClient, changed: dict[str, str], where: str
) -> None:
    answer = await client.get(PATH, params=TOKENS | changed)

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [where]
