"""Over a real socket: what only the server in front of the application decides."""

import asyncio

import httpx2
import orjson
import pytest
from fastapi import FastAPI

from tests.api.asking import candidate_path, command_path, until
from tests.api.rows import CANDIDATE, Rows


async def test_head_and_304__leave_the_connection_in_order(
    over_the_wire: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.candidate()
    path = candidate_path(CANDIDATE)

    for _ in range(3):
        head = await over_the_wire.head(path)
        got = await over_the_wire.get(path)
        same = await over_the_wire.get(path, headers={"if-none-match": head.headers["etag"]})
        assert (head.status_code, got.status_code, same.status_code) == (200, 200, 304)
        assert int(head.headers["content-length"]) == len(got.content)


async def test_command_id__may_hold_an_encoded_slash(
    over_the_wire: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.settled("orders/17 ё")

    answer = await over_the_wire.get(command_path("orders%2F17%20%D1%91"))

    assert answer.json()["command_id"] == "orders/17 ё"


async def test_client_that_leaves__takes_nothing_with_it(
    served: tuple[FastAPI, str], over_the_wire: httpx2.AsyncClient, rows: Rows
) -> None:
    app, _ = served
    asking = asyncio.create_task(
        over_the_wire.get(command_path("a"), headers={"prefer": "wait=30"})
    )
    await until(lambda: app.state.waits.total == 1)

    asking.cancel()
    await rows.settled("a")
    await until(lambda: app.state.waits.total == 0)

    assert (await over_the_wire.get(command_path("a"))).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"BREW /livez HTTP/1.1\r\nhost: a\r\n\r\n",
        b"get /livez HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /livez HTTP/9.9\r\nhost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
async def test_what_is_no_http__is_400_with_a_problem(
    served: tuple[FastAPI, str], sent: bytes
) -> None:
    url = httpx2.URL(served[1])
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()

    status, *fields = head.lower().split(b"\r\n")
    assert status == b"http/1.1 400 bad request"
    assert b"content-type: application/problem+json" in fields
    assert b"content-length: %d" % len(body) in fields
    assert (orjson.loads(body)["status"], orjson.loads(body)["code"]) == (400, "malformed_http")
