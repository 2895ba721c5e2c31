"""`PATCH`, `POST` and `DELETE` of one candidate, on the whole service."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.asking import all_candidates_path, candidate_path, history_path
from tests.api.world import PERSON, World

Create = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
def create(writer: httpx2.AsyncClient) -> Create:
    """Creates a candidate of the writer's organization."""

    async def send(**fields: Any) -> dict[str, Any]:
        answer = await writer.post(all_candidates_path(), json=PERSON | fields)
        assert answer.status_code == 201, answer.text
        candidate: dict[str, Any] = answer.json()
        return candidate

    return send


async def test_update__of_the_original_specification(
    writer: httpx2.AsyncClient, create: Create
) -> None:
    before = await create()

    answer = await writer.patch(
        candidate_path(before["candidate_id"]),
        json={"id": before["candidate_id"], "email": "new@example.com"},
    )

    assert answer.status_code == 200
    assert answer.json()["email"] == "new@example.com"
    assert answer.json()["updated_at"] > before["updated_at"]


async def test_update__of_an_unknown_id_of_the_original_specification(
    writer: httpx2.AsyncClient,
) -> None:
    answer = await writer.patch(candidate_path(str(uuid4())), json={"email": "new@example.com"})

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert "not found" in answer.text


async def test_create_and_patch__answer_what_any_process_reads_afterwards(
    writer: httpx2.AsyncClient,
) -> None:
    chosen = str(uuid4())

    created = await writer.post(
        all_candidates_path(), json=PERSON | {"id": chosen.upper(), "attributes": {"a": 1}}
    )
    read = await writer.get(candidate_path(chosen))
    assert created.status_code == 201
    assert created.headers["location"] == candidate_path(chosen)
    assert (created.content, created.headers["etag"]) == (read.content, '"1"')

    patched = await writer.patch(
        candidate_path(chosen.upper()),
        content=b'{"tags": {"add": ["x"]}, "attributes": {"a": null, "b": "\xd1\x91"}}',
        headers={"content-type": "application/merge-patch+json; charset=utf-8"},
    )
    read = await writer.get(candidate_path(chosen))
    assert (patched.status_code, patched.headers["etag"]) == (200, '"2"')
    assert patched.content == read.content
    assert read.json()["attributes"] == {"b": "ё"}

    unchanged = await writer.patch(candidate_path(chosen), json={"tags": ["x"]})
    assert (unchanged.status_code, unchanged.content) == (200, read.content)

    again = await writer.post(all_candidates_path(), json=PERSON | {"id": chosen})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    assert again.json()["current_version"] == 2


async def test_condition__is_412_unless_the_conflict_is_allowed(
    writer: httpx2.AsyncClient, create: Create
) -> None:
    path = candidate_path((await create())["candidate_id"])
    stale = {"if-match": '"1"'}
    assert (await writer.patch(path, json={"rating": 1}, headers=stale)).status_code == 200

    refused = await writer.patch(path, json={"rating": 2}, headers=stale)
    merged = await writer.patch(f"{path}?on_conflict=merge", json={"source": "fair"}, headers=stale)
    overlapping = await writer.patch(
        f"{path}?on_conflict=merge", json={"rating": 3, "phone": None}, headers=stale
    )
    overwritten = await writer.patch(
        f"{path}?on_conflict=overwrite", json={"rating": 4}, headers=stale
    )
    anything = await writer.patch(path, json={"rating": 5}, headers={"if-match": "*"})

    assert (refused.status_code, refused.json()["code"]) == (412, "version_conflict")
    assert (refused.json()["current_version"], refused.json()["fields"]) == (2, ["rating"])
    assert (merged.status_code, merged.headers["etag"]) == (200, '"3"')
    assert (overlapping.status_code, overlapping.json()["fields"]) == (412, ["rating"])
    assert (overwritten.status_code, anything.headers["etag"]) == (200, '"5"')


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("PATCH", "if-none-match"),
        ("POST", "if-match"),
        ("DELETE", "if-match"),
        ("DELETE", "if-none-match"),
    ],
)
async def test_condition_that_no_command_carries__is_400_and_nothing_is_done(
    writer: httpx2.AsyncClient, create: Create, method: str, field: str
) -> None:
    candidate = await create()
    path = candidate_path(candidate["candidate_id"])
    url = all_candidates_path() if method == "POST" else path
    asked: dict[str, dict[str, Any]] = {
        "PATCH": {"json": {"rating": 1}},
        "POST": {"json": PERSON},
        "DELETE": {"params": {"reason": "test"}},
    }

    answer = await writer.request(method, url, headers={field: '"7"'}, **asked[method])

    assert (answer.status_code, (await writer.get(path)).json()) == (400, candidate)
    (error,) = answer.json()["errors"]
    assert error["pointer"] == f"/header/{field}"


async def test_key_used_again__is_answered_as_the_first_time(
    writer: httpx2.AsyncClient, create: Create, world: World
) -> None:
    path = candidate_path((await create())["candidate_id"])
    key = {"idempotency-key": '"order 17"'}

    async def twice(method: str, url: str, **request: Any) -> httpx2.Response:
        first = await writer.request(method, url, headers=key_of(url), **request)
        await writer.patch(path, json={"rating": None})
        await writer.patch(path, json={"rating": 5})
        again = await writer.request(method, url, headers=key_of(url), **request)
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers.get("etag") == first.headers.get("etag")
        return first

    def key_of(url: str) -> dict[str, str]:
        return key | {"idempotency-key": f"order {len(url)}"}

    assert (await twice("PATCH", path, json={"rating": 1})).status_code == 200
    assert (await twice("POST", all_candidates_path(), json=PERSON)).status_code == 201
    nothing_new = f"{path}?on_conflict=merge"
    assert (await twice("PATCH", nothing_new, json={"rating": 5})).headers["etag"] == '"6"'
    missing = candidate_path(str(uuid4())) + "?on_conflict=reject"
    assert (await twice("PATCH", missing, json={"rating": 1})).status_code == 404

    first = await writer.patch(path, json={"rating": 2}, headers=key)
    other = await writer.patch(path, json={"rating": 3}, headers=key)
    bare = await writer.patch(path, json={"rating": 2}, headers={"idempotency-key": "order 17"})
    assert (other.status_code, other.json()["code"]) == (422, "id_reused")
    assert bare.content == first.content

    # The key is the user's own.
    organization_id = (await writer.get(path)).json()["organization_id"]
    async with world.client(organization_id=organization_id, user="bob") as colleague:
        theirs = await colleague.patch(path, json={"rating": 4}, headers=key)
    assert theirs.json()["rating"] == 4


async def test_key_used_at_once__has_one_effect(writer: httpx2.AsyncClient, create: Create) -> None:
    path = candidate_path((await create())["candidate_id"])

    answers = await asyncio.gather(
        *(
            writer.patch(path, json={"rating": 1}, headers={"idempotency-key": "once"})
            for _ in range(5)
        )
    )

    assert {(answer.status_code, answer.content) for answer in answers} == {
        (200, (await writer.get(path)).content)
    }
    assert answers[0].headers["etag"] == '"2"'


async def test_no_wait__is_202_and_its_location_tells_the_outcome(
    writer: httpx2.AsyncClient, create: Create
) -> None:
    path = candidate_path((await create())["candidate_id"])

    answer = await writer.patch(path, json={"rating": 1}, headers={"prefer": "wait=0"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=0"
    assert answer.json()["outcome"] == "pending"
    assert UUID(answer.json()["command_id"]).version == 7
    assert "&position=" in answer.headers["location"]

    told = await writer.get(answer.headers["location"], headers={"prefer": "wait=20"})
    assert (told.status_code, told.json()["outcome"], told.json()["version"]) == (200, "applied", 2)


@pytest.mark.parametrize(
    ("request_", "status", "pointers"),
    [
        ({"json": {}}, 400, [""]),
        ({"json": {"email": "x", "rating": 9}}, 400, ["/email", "/rating"]),
        ({"json": {"first_name": None}}, 400, ["/first_name"]),
        ({"json": {"version": 3}}, 400, ["/version"]),
        ({"json": {"id": str(uuid4()), "rating": 1}}, 400, ["/id"]),
        ({"json": {"id": 7, "rating": 1}}, 400, ["/id"]),
        ({"json": {"tags": {"add": [""]}}}, 400, ["/tags/add/0"]),
        ({"json": {"attributes": {"a": "\0"}}}, 400, ["/attributes/a"]),
        ({"json": [1]}, 400, [""]),
        ({"content": b"null", "headers": {"content-type": "application/json"}}, 400, [""]),
        ({"json": {"rating": 1}, "params": {"on_conflict": "win"}}, 400, ["/query/on_conflict"]),
        ({"json": {"rating": 1}, "params": {"unknown": "x"}}, 400, ["/query/unknown"]),
        ({"json": {"rating": 1}, "headers": {"if-match": "7"}}, 400, ["/header/if-match"]),
        ({"json": {"rating": 1}, "headers": {"if-match": 'W/"7"'}}, 400, ["/header/if-match"]),
        ({"json": {"rating": 1}, "headers": {"if-match": '"1", "2"'}}, 400, ["/header/if-match"]),
        (
            {"json": {"rating": 1}, "headers": {"idempotency-key": ""}},
            400,
            ["/header/idempotency-key"],
        ),
        (
            {"json": {"rating": 1}, "headers": {"idempotency-key": "x" * 201}},
            400,
            ["/header/idempotency-key"],
        ),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, []),
        ({"content": b'{"rating": NaN}', "headers": {"content-type": "application/json"}}, 400, []),
        ({"content": b"[" * 5000, "headers": {"content-type": "application/json"}}, 400, []),
        ({"content": b'{"rating": 1}'}, 415, []),
        ({"content": b'{"rating": 1}', "headers": {"content-type": "text/json"}}, 415, []),
        ({"json": {"rating": 1}, "headers": {"content-encoding": "gzip"}}, 415, []),
        ({"json": {"source": "x" * 300_000}}, 413, []),
    ],
)
async def test_bad_input__is_refused_at_once_and_says_where(
    writer: httpx2.AsyncClient, request_: dict[str, Any], status: int, pointers: list[str]
) -> None:
    answer = await writer.patch(candidate_path(str(uuid4())), **request_)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == pointers


async def test_bad_input_of_others__says_where(writer: httpx2.AsyncClient) -> None:
    nobody = await writer.post(all_candidates_path(), json={"id": "7", "email": "a@b.example"})
    no_reason = await writer.delete(candidate_path(str(uuid4())))
    no_id = await writer.patch(candidate_path("17"), json={"rating": 1})

    def pointers(answer: httpx2.Response) -> list[str]:
        assert answer.status_code == 400
        return [error["pointer"] for error in answer.json()["errors"]]

    assert sorted(pointers(nobody)) == ["/first_name", "/id", "/last_name"]
    assert pointers(no_reason) == ["/query/reason"]
    assert pointers(no_id) == ["/path/candidate_id"]


async def test_body_that_does_not_come__is_408(
    writer: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.bodies.BODY_S_MAX", 0.05)

    async def stalled() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    answer = await writer.patch(
        candidate_path(str(uuid4())),
        content=stalled(),
        headers={"content-type": "application/json"},
    )

    assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")
    assert answer.headers["connection"] == "close"


async def test_too_large_without_a_length__is_413(writer: httpx2.AsyncClient) -> None:
    async def endless() -> Any:
        while True:
            yield b" " * 65_536

    answer = await writer.patch(
        candidate_path(str(uuid4())),
        content=endless(),
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 413


async def test_erasure__is_taken_on_and_then_nothing_tells_of_the_person(
    writer: httpx2.AsyncClient, create: Create
) -> None:
    candidate_id = (await create(email="person@example.com"))["candidate_id"]
    path = candidate_path(candidate_id)
    key = {"idempotency-key": "before"}
    assert (await writer.patch(path, json={"rating": 1}, headers=key)).status_code == 200

    unknown = await writer.delete(candidate_path(str(uuid4())), params={"reason": "request 7"})
    answer = await writer.delete(path, params={"reason": "request 7"})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (answer.status_code, answer.json()["outcome"]) == (202, "accepted")
    told = await writer.get(answer.headers["location"])
    assert told.json()["outcome"] == "accepted"

    async def tells_no_more() -> bool:
        now = await writer.get(path)
        then = await writer.patch(path, json={"rating": 1}, headers=key)
        return (now.status_code, then.status_code) == (404, 404)

    async with asyncio.timeout(20):
        while not await tells_no_more():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    reads = [
        await writer.get(each)
        for each in (path, f"{path}?version=1", f"{path}?as_of=2999-01-01T00:00:00Z",
                     history_path(candidate_id))
    ]  # fmt: skip
    assert {(each.status_code, each.json()["code"]) for each in reads} == {(404, "not_found")}
    assert (await writer.get(all_candidates_path())).json()["items"] == []
    writes = [
        await writer.patch(path, json={"rating": 1}, headers=key),
        await writer.patch(path, json={"rating": 2}),
        await writer.delete(path, params={"reason": "request 8"}),
    ]
    assert {(each.status_code, each.json()["code"]) for each in writes} == {(404, "erased")}
    again = await writer.post(all_candidates_path(), json=PERSON | {"id": candidate_id})
    assert (again.status_code, again.json()["code"]) == (409, "erased")
