"""The OpenAPI document, and its page without the internet."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx2
import jsonschema_rs
import pytest

from api.gate import Scope
from tests.api.asking import BASE_URL


async def test_docs__load_nothing_from_elsewhere(detached: httpx2.AsyncClient) -> None:
    page = await detached.get("/docs")
    links = re.findall(r"""(?:src|href|url)[=:]\s*['"]([^'"]+)""", page.text)

    assert len(links) == 4
    for link in links:
        url = httpx2.URL(f"{BASE_URL}/docs").join(link)
        assert str(url).startswith(BASE_URL)
        found = await detached.get(url)
        assert found.status_code == 200
        assert len(found.content) > 500


async def test_root__leads_to_the_docs(detached: httpx2.AsyncClient) -> None:
    root = await detached.get("/")

    assert (root.status_code, root.headers["location"]) == (307, "docs")


async def test_openapi__refers_only_to_what_it_has(detached: httpx2.AsyncClient) -> None:
    document = (await detached.get("/openapi.json")).json()

    references = {value for name, value in _members(document) if name == "$ref"}

    assert document["openapi"].startswith("3.1")
    assert "#/components/schemas/CandidateState" in references
    for reference in references:
        part = document
        for name in reference.removeprefix("#/").split("/"):
            part = part[name]


async def test_openapi__tells_every_error_as_a_problem(detached: httpx2.AsyncClient) -> None:
    document = (await detached.get("/openapi.json")).json()
    operations = [
        (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    ]

    ids = [operation["operationId"] for _, operation in operations]
    assert len(set(ids)) == len(ids)
    for path, operation in operations:
        errors = {
            status: answer
            for status, answer in operation["responses"].items()
            if not status.startswith(("2", "3"))
        }
        repeatable = "Idempotency-Key" in [p["name"] for p in operation.get("parameters", ())]
        assert ("422" in errors) is repeatable
        assert all(set(each["content"]) == {"application/problem+json"} for each in errors.values())
        if path.startswith("/api/"):
            assert {"400", "401", "403", "503"} <= set(errors)
            assert "404" in errors or "{" not in path
            for alternative in operation["security"]:
                ((scheme, scopes),) = alternative.items()
                assert (scheme, len(scopes)) == ("bearer", 1)
                assert scopes[0] in get_args(Scope)


async def test_openapi__each_answer_has_an_example_that_its_schema_allows(
    detached: httpx2.AsyncClient,
) -> None:
    document = (await detached.get("/openapi.json")).json()
    shown = [
        (f"{operation['operationId']} {status}", media_type, content)
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        for media_type, content in answer.get("content", {}).items()
        if media_type != "text/plain"
    ]

    assert {media_type for _, media_type, _ in shown} == {
        "application/json", "application/problem+json", "text/event-stream",
    }  # fmt: skip
    for where, _, content in shown:
        rules = content["schema"] | {"components": document["components"]}
        assert jsonschema_rs.is_valid(rules, content["example"]), where


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect"])
async def test_docs__other_than_ours_are_not_there(detached: httpx2.AsyncClient, path: str) -> None:
    assert (await detached.get(path)).status_code == 404


def _members(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        for name, value in part.items():
            yield name, value
            yield from _members(value)
    if isinstance(part, list):
        for value in part:
            yield from _members(value)
