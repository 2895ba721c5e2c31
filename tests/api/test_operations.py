"""Bulk updates and bulk operations over HTTP, on the whole service."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import orjson
import pytest
from fastapi import FastAPI

from api.limits import STREAMS_MAX
from api.progress import ProgressStreams
from domain.identity import home_lane
from domain.limits import BULK_INLINE_ITEMS_MAX
from tests.api.asking import all_candidates_path, candidate_path, until
from tests.api.rows import ORGANIZATION, Rows
from tests.api.world import PERSON, World
from tests.conftest import PARTITIONS_TOTAL

BULK = f"{all_candidates_path()}/bulk-update"
OPERATIONS = "/api/gulf-funnel/bulk-operations"
LARGE = BULK_INLINE_ITEMS_MAX + 200


@pytest.fixture
async def ten(writer: httpx2.AsyncClient) -> list[str]:
    """Ten candidates of the writer's organization."""
    answers = await asyncio.gather(
        *(writer.post(all_candidates_path(), json=PERSON) for _ in range(10))
    )
    return [answer.json()["candidate_id"] for answer in answers]


async def test_bulk_of_ten__of_the_original_specification(
    writer: httpx2.AsyncClient, ten: list[str]
) -> None:
    answer = await writer.post(
        BULK, json={"candidate_ids": ten, "field": "status", "value": "interview"}
    )

    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["success"], told["updated_count"], told["failed_ids"]) == (True, 10, [])
    assert told["counts"]["total"] == told["counts"]["applied"] == 10
    read = await writer.get(f"{all_candidates_path()}/{ten[0]}")
    assert read.json()["status"] == "interview"


async def test_bulk__accounts_for_each_and_is_a_resource(
    writer: httpx2.AsyncClient, ten: list[str], world: World
) -> None:
    missing = str(uuid4())
    body = {
        "candidate_ids": [*ten, missing, ten[0].upper()],
        "changes": {"rating": 4, "tags": {"add": ["x"]}},
        "expected_versions": {ten[1]: 9},
    }
    key = {"idempotency-key": "bulk"}

    answer = await writer.post(BULK, json=body, headers=key)
    again = await writer.post(BULK, json=body, headers=key)

    told = answer.json()
    assert (told["success"], told["updated_count"]) == (False, 9)
    assert sorted(told["failed_ids"]) == sorted([ten[1], missing])
    assert {each["reason"] for each in told["failed"]} == {"version_conflict", "not_found"}
    assert (again.status_code, again.content) == (200, answer.content)

    path = f"{OPERATIONS}/{told['operation_id']}"
    operation = (await writer.get(path)).json()
    assert operation["counts"] == told["counts"]
    assert (operation["status"], operation["percentage"]) == ("completed", 100.0)
    assert operation["changes"] == body["changes"]

    items = (await writer.get(f"{path}/items?limit=1000")).json()["items"]
    assert [item["candidate_id"] for item in items] == [*ten, missing]
    assert items[0]["version"] == 2
    conflicts = (await writer.get(f"{path}/items?outcome=conflict")).json()
    assert [item["current_version"] for item in conflicts["items"]] == [1]
    assert conflicts["next_cursor"] is None
    assert (await writer.get(f"{path}/items?outcome=pending")).json()["items"] == []

    listed = (await writer.get(OPERATIONS)).json()["items"]
    assert [each["operation_id"] for each in listed] == [told["operation_id"]]

    # Nobody else's: as if it were not there.
    async with world.client() as stranger:
        for method, url in (
            ("GET", path),
            ("GET", f"{path}/items"),
            ("GET", f"{path}/events"),
            ("POST", f"{path}/pause"),
        ):
            theirs = await stranger.request(method, url)
            nowhere = await stranger.request(method, url.replace(told["operation_id"], missing))
            assert theirs.status_code == nowhere.status_code == 404, url
            assert theirs.content == nowhere.content
        assert (await stranger.get(OPERATIONS)).json() == {"items": [], "next_cursor": None}
        foreign = await stranger.post(
            BULK, json={"candidate_ids": ten, "field": "rating", "value": 1}
        )
        assert foreign.json()["counts"]["not_found"] == 10


async def test_dry_run__tells_and_changes_nothing(
    writer: httpx2.AsyncClient, ten: list[str]
) -> None:
    answer = await writer.post(
        BULK, json={"candidate_ids": ten, "changes": {"rating": 1}, "dry_run": True}
    )

    assert (answer.status_code, answer.json()["updated_count"]) == (200, 0)
    assert answer.json()["counts"]["applied"] == len(answer.json()["differences"]) == 10
    read = await writer.get(f"{all_candidates_path()}/{ten[0]}")
    assert (read.json()["version"], read.json()["rating"]) == (1, None)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/changes"]),
        ({"candidate_ids": [], "changes": {"rating": 1}}, ["/candidate_ids"]),
        ({"candidate_ids": ["x"], "changes": {"rating": 1}}, ["/candidate_ids/0"]),
        ({"candidate_ids": [str(uuid4())], "changes": {}}, ["/changes"]),
        ({"candidate_ids": [str(uuid4())], "changes": {"email": "a@b.de"}}, ["/changes/email"]),
        ({"candidate_ids": [str(uuid4())], "changes": {"rating": "4"}}, ["/changes/rating"]),
        ({"filter": {}, "changes": {"rating": 1}}, ["/filter"]),
        ({"filter": {"stage": "a"}, "changes": {"rating": 1}}, ["/filter/stage"]),
        ({"candidate_ids": [str(uuid4())], "field": "rating", "value": 9}, ["/value"]),
        ({"candidate_ids": [str(uuid4())], "field": "email", "value": "x"}, ["/field"]),
        ({"candidate_ids": [str(uuid4())], "field": "rating"}, ["/value"]),
        ({"candidate_ids": [str(uuid4())], "value": 1}, ["/field"]),
        (
            {"candidate_ids": [str(uuid4())], "field": "rating", "value": 1, "changes": {}},
            ["/changes"],
        ),
        ({"organization_id": str(uuid4()), "changes": {"rating": 1}}, ["/organization_id"]),
        ({"actor": "eve", "candidate_ids": [str(uuid4())], "changes": {"rating": 1}}, ["/actor"]),
        (
            {"candidate_ids": [str(uuid4()) for _ in range(20_001)], "changes": {"rating": 1}},
            ["/candidate_ids"],
        ),
    ],
)
async def test_bad_bulk__is_400_and_says_where(
    writer: httpx2.AsyncClient, body: dict[str, Any], pointers: list[str]
) -> None:
    answer = await writer.post(BULK, json=body)

    assert answer.status_code == 400, answer.text
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == sorted(pointers)


async def events(client: httpx2.AsyncClient, url: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The events of a stream, to its end."""
    answer = await client.get(url)
    assert answer.headers["content-type"].startswith("text/event-stream")
    for block in answer.text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if "event" in fields:
            yield fields["event"], orjson.loads(fields["data"])


async def test_large_operation__is_taken_on_steered_seen_and_retried(
    writer: httpx2.AsyncClient, ten: list[str]
) -> None:
    ids = [*ten, *(str(uuid4()) for _ in range(LARGE - 10))]
    answer = await writer.post(
        BULK, json={"candidate_ids": ids, "field": "status", "value": "screening"}
    )
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    assert answer.json()["status"] == "pending"
    assert path == f"{OPERATIONS}/{answer.json()['operation_id']}"

    seen = [event async for event in events(writer, f"{path}/events")]
    assert [name for name, _ in seen][-1] == "completed"
    assert {name for name, _ in seen[:-1]} <= {"progress"}
    for _, operation in seen:
        counts = dict(operation["counts"])
        assert counts.pop("total") == sum(counts.values()) == LARGE
    last = seen[-1][1]
    assert (last["counts"]["applied"], last["counts"]["not_found"]) == (10, LARGE - 10)
    assert (last["percentage"], last["seconds_left"]) == (100.0, None)

    # All pages of the items, each item once, in order.
    found, url = [], f"{path}/items?limit=500"
    while url:
        page = await writer.get(url)
        found += page.json()["items"]
        url = page.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert [item["candidate_id"] for item in found] == ids
    assert [item["ordinal"] for item in found] == sorted(item["ordinal"] for item in found)

    closed = await writer.post(f"{path}/pause")
    assert (closed.status_code, closed.json()["code"]) == (409, "operation_closed")

    retried = await writer.post(f"{path}/retry-failed", headers={"idempotency-key": "again"})
    assert retried.status_code == 202, retried.text
    child = retried.headers["location"]
    assert retried.json()["parent_id"] == answer.json()["operation_id"]
    [*_, (_, ended)] = [event async for event in events(writer, f"{child}/events")]
    assert ended["counts"]["not_found"] == ended["counts"]["total"] == LARGE - 10

    newest = await writer.get(f"{OPERATIONS}?limit=1&status=completed")
    following = await writer.get(newest.headers["link"].partition(">")[0].removeprefix("<"))
    pages = [page.json()["items"][0]["operation_id"] for page in (newest, following)]
    assert pages == [ended["operation_id"], answer.json()["operation_id"]]
    assert "link" not in following.headers


async def test_filter__becomes_an_operation(writer: httpx2.AsyncClient, ten: list[str]) -> None:
    await writer.patch(f"{all_candidates_path()}/{ten[0]}", json={"source": "fair"})

    answer = await writer.post(BULK, json={"filter": {"source": "fair"}, "changes": {"rating": 3}})
    assert answer.status_code == 202
    [*_, (name, operation)] = [
        event async for event in events(writer, f"{answer.headers['location']}/events")
    ]

    assert (name, operation["counts"]["total"], operation["counts"]["applied"]) == (
        "completed",
        1,
        1,
    )
    assert operation["filter"] == {"source": "fair"}


async def test_filter__that_matches_none_or_too_many_is_answered(
    writer: httpx2.AsyncClient, ten: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = await writer.post(BULK, json={"filter": {"source": "x"}, "changes": {"rating": 3}})
    assert nobody.status_code == 202
    [*_, (name, operation)] = [
        event async for event in events(writer, f"{nobody.headers['location']}/events")
    ]
    assert (name, operation["counts"]["total"], operation["percentage"]) == ("completed", 0, 100.0)

    for module in ("consumer.bulk", "consumer.operation_store"):
        monkeypatch.setattr(f"{module}.BULK_FILTER_ITEMS_MAX", len(ten) - 1)
    answer = await writer.post(BULK, json={"filter": {"status": "new"}, "changes": {"rating": 3}})
    assert (answer.status_code, answer.json()["code"]) == (400, "too_many")


async def test_merge__of_long_histories_is_taken_on(
    writer: httpx2.AsyncClient, ten: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("consumer.apply", "consumer.background", "domain.bulk"):
        monkeypatch.setattr(f"{module}.MERGE_HISTORY_VERSIONS_MAX", 1)
    for each in ten[:2]:
        await writer.patch(candidate_path(each), json={"source": "fair"})
    versions = dict.fromkeys(ten[:2], 1)
    body = {"candidate_ids": ten, "changes": {"rating": 3}, "on_conflict": "merge"}
    answer = await writer.post(BULK, json=body | {"expected_versions": versions})
    assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    [*_, (name, operation)] = [
        event async for event in events(writer, f"{answer.headers['location']}/events")
    ]
    assert (name, operation["counts"]["applied"]) == ("completed", 10)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("?limit=0", "/query/limit"),
        ("?limit=201", "/query/limit"),
        ("?status=lost", "/query/status"),
        ("?cursor=x", "/query/cursor"),
        ("?unknown=1", "/query/unknown"),
    ],
)
async def test_bad_question__is_400_and_says_where(
    writer: httpx2.AsyncClient, query: str, pointer: str
) -> None:
    answer = await writer.get(f"{OPERATIONS}{query}")

    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


PAUSED = """
    INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source,
                                 actor, type, changes, on_conflict, dry_run, status, total,
                                 pending, created_at, updated_at)
    VALUES ($1, $2, $3, 'c', '/tests', 'ada', 'candidate.bulk-update.v1', '{"rating": 1}',
            'reject', false, 'paused', 2, 2, now(), now())
"""
CHUNK = "INSERT INTO bulk_operation_chunks VALUES ($1, $2, 0, $3)"


async def test_paused_operation__is_resumed_or_cancelled(
    writer: httpx2.AsyncClient, ten: list[str], world: World
) -> None:
    """Rows as the lane leaves them when it is paused at once: no command is as quick as that."""
    organization_id = (await writer.get(candidate_path(ten[0]))).json()["organization_id"]
    lane = home_lane(organization_id, PARTITIONS_TOTAL)
    paths = []
    database = await asyncpg.connect(world.database_url)
    for ids in (ten[:2], ten[2:4]):
        operation_id = str(uuid4())
        await database.execute(PAUSED, organization_id, operation_id, lane)
        await database.execute(CHUNK, organization_id, operation_id, ids)
        paths.append(f"{OPERATIONS}/{operation_id}")
    await database.close()

    pending = (await writer.get(f"{paths[0]}/items")).json()["items"]
    assert pending == [
        {"ordinal": n, "candidate_id": ten[n], "outcome": "pending"} for n in range(2)
    ]
    assert len((await writer.get(f"{OPERATIONS}?status=paused")).json()["items"]) == 2
    early = await writer.post(f"{paths[0]}/retry-failed")
    assert (early.status_code, early.json()["code"]) == (409, "not_allowed")

    resumed = await writer.post(f"{paths[0]}/resume")
    assert resumed.status_code == 200
    assert resumed.json()["status"] in ("running", "completed")
    cancelled = await writer.post(f"{paths[1]}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")

    [*_, (_, done)] = [event async for event in events(writer, f"{paths[0]}/events")]
    assert (done["status"], done["counts"]["applied"]) == ("completed", 2)
    [*_, (name, ended)] = [event async for event in events(writer, f"{paths[1]}/events")]
    assert (name, ended["status"], ended["counts"]["cancelled"]) == ("completed", "cancelled", 2)
    assert (await writer.get(candidate_path(ten[2]))).json()["version"] == 1


RUNNING = """
    INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source,
                                 actor, type, changes, on_conflict, dry_run, status, total,
                                 pending, created_at, updated_at)
    VALUES ($1, $2, 0, 'c', '/tests', 'ada', 'candidate.bulk-update.v1', '{"rating": 1}',
            'reject', false, 'running', 100, 100, now(), now())
"""
FURTHER = """
    UPDATE bulk_operations SET applied = 50, pending = 50, updated_at = created_at + interval '10 s'
"""
DONE = """
    UPDATE bulk_operations
    SET applied = 100, pending = 0, status = 'completed', completed_at = now(), updated_at = now()
    WHERE operation_id = $1
"""


async def test_stream__tells_progress_to_the_end_of_the_operation_or_of_the_process(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows
) -> None:
    streams: ProgressStreams = app.state.progress
    paths = []
    for _ in range(2):
        operation_id = str(uuid4())
        await rows.connection.execute(RUNNING, ORGANIZATION, operation_id)
        paths.append(f"{OPERATIONS}/{operation_id}")
    ended, going_on = (asyncio.create_task(client.get(f"{path}/events")) for path in paths)
    await until(lambda: streams.total == 2)

    await rows.connection.execute(FURTHER)
    told = (await client.get(paths[0])).json()
    await rows.connection.execute(DONE, paths[0].rpartition("/")[2])
    of_the_operation = (await ended).text
    (done,) = re.findall(r"id: (.*)\nevent: completed", of_the_operation)
    back, stale = [
        await client.get(f"{paths[0]}/events", headers={"last-event-id": seen})
        for seen in (done, told["updated_at"])
    ]
    app.state.waits.end_all()
    of_the_process = (await going_on).text

    assert (back.status_code, back.content) == (204, b"")
    assert stale.text.count("event: completed") == 1
    assert (told["percentage"], told["items_per_second"], told["seconds_left"]) == (50.0, 5.0, 10.0)
    assert of_the_operation.count("event: completed") == 1
    assert of_the_process.count("event: progress") >= 1
    assert "event: completed" not in of_the_process
    assert streams.total == 0


async def test_stream__beyond_the_bound_is_503(
    app: FastAPI, client: httpx2.AsyncClient, rows: Rows
) -> None:
    operation_id = str(uuid4())
    await rows.connection.execute(RUNNING, ORGANIZATION, operation_id)
    app.state.progress.total = STREAMS_MAX

    answer = await client.get(f"{OPERATIONS}/{operation_id}/events")

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
