"""`GET /candidates/{id}` on real rows."""

import httpx2
import orjson
import pytest

from tests.api.asking import candidate_path
from tests.api.rows import CANDIDATE, Rows

PATH = candidate_path(CANDIDATE)


async def test_candidate__is_the_state_of_its_change_event_to_the_byte(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    state = await rows.candidate()

    answer = await client.get(PATH)

    assert answer.status_code == 200
    assert answer.content == orjson.dumps(state)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["etag"] == '"7"'


async def test_candidate__keeps_nulls_and_empty_values(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    empty = {"phone": None, "pipeline_stage": None, "rating": None, "source": None}
    state = await rows.candidate(**empty, tags=[], attributes={})

    assert (await client.get(PATH)).json() == state


async def test_candidate__is_found_by_an_upper_case_id(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.candidate()

    answer = await client.get(candidate_path(CANDIDATE.upper()))

    assert answer.json()["candidate_id"] == CANDIDATE


@pytest.mark.parametrize("tag", ['"7"', 'W/"7"', '"6", "7"', 'W/"1",W/"7"', "*", " * "])
async def test_if_none_match__with_this_version_is_304(
    client: httpx2.AsyncClient, rows: Rows, tag: str
) -> None:
    await rows.candidate()

    answer = await client.get(PATH, headers={"if-none-match": tag})

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["etag"] == '"7"'
    assert answer.headers["cache-control"] == "no-store"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("tag", ['"8"', 'W/"77"', "7", '"a", "b"', "", '"*"'])
async def test_if_none_match__with_another_version_is_200(
    client: httpx2.AsyncClient, rows: Rows, tag: str
) -> None:
    await rows.candidate()

    assert (await client.get(PATH, headers={"if-none-match": tag})).status_code == 200


async def test_if_none_match__on_several_lines_counts_as_one_list(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.candidate()
    lines = [("if-none-match", '"1"'), ("if-none-match", '"7"')]

    assert (await client.get(PATH, headers=lines)).status_code == 304


async def test_head__has_the_headers_of_get_and_no_body(
    client: httpx2.AsyncClient, rows: Rows
) -> None:
    await rows.candidate()
    own = ("x-request-id",)

    got, head = await client.get(PATH), await client.head(PATH)

    assert (head.status_code, head.content) == (200, b"")
    assert {name: value for name, value in head.headers.items() if name not in own} == {
        name: value for name, value in got.headers.items() if name not in own
    }
    unchanged = await client.head(PATH, headers={"if-none-match": '"7"'})
    assert unchanged.status_code == 304


async def test_unknown_candidate__is_404(client: httpx2.AsyncClient) -> None:
    answer = await client.get(PATH)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:gulf-funnel:problem:not_found",
        "title": "Not Found",
        "status": 404,
        "detail": "Candidate not found.",
        "code": "not_found",
        "errors": [],
    }


@pytest.mark.parametrize(
    "malformed",
    ["1", "secret'--", CANDIDATE + "0", CANDIDATE.replace("-", ""), f"{{{CANDIDATE}}}", "%00"],
)
async def test_malformed_id__is_400_without_the_input(
    client: httpx2.AsyncClient, malformed: str
) -> None:
    answer = await client.get(candidate_path(malformed))

    assert answer.status_code == 400
    assert malformed not in answer.json()["detail"]
    assert answer.json()["errors"] == [
        {"pointer": "/path/candidate_id", "code": "malformed", "detail": "A UUID is required."}
    ]


@pytest.mark.parametrize("query", ["asof=2026-01-01", "x=", "a/b~c=1"])
async def test_unknown_parameter__is_400_and_named(
    client: httpx2.AsyncClient, rows: Rows, query: str
) -> None:
    await rows.candidate()

    answer = await client.get(f"{PATH}?{query}")

    name = query.partition("=")[0].replace("~", "~0").replace("/", "~1")
    assert answer.status_code == 400
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [
        (f"/query/{name}", "unknown_field")
    ]
