"""Pages of other origins: shut out unless the settings name them."""

import httpx2
import pytest

from api.dev_keys import DevKeys
from tests.api.asking import application, candidate_path, client_of
from tests.api.rows import CANDIDATE

PAGE = "https://app.example"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "PATCH",
    "access-control-request-headers": "authorization,content-type,if-match,idempotency-key",
}


async def test_cors__is_off(detached: httpx2.AsyncClient) -> None:
    answer = await detached.options(candidate_path(CANDIDATE), headers=PREFLIGHT)
    asked = await detached.get("/livez", headers={"origin": PAGE})

    assert answer.status_code == 405
    for each in (answer, asked):
        assert not [name for name in each.headers if name.startswith("access-control-")]


async def test_cors__lets_named_origins_ask_and_read_our_headers(keys: DevKeys) -> None:
    app = application("postgresql://nobody.invalid/none", keys, cors_origins=[PAGE])
    async with client_of(app) as client:
        allowed = await client.options(candidate_path(CANDIDATE), headers=PREFLIGHT)
        asked = await client.get("/livez", headers={"origin": PAGE})
        other = await client.get("/livez", headers={"origin": "https://evil.example"})

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "PATCH" in allowed.headers["access-control-allow-methods"]
    assert "etag" in asked.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in asked.headers
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "asked",
    [
        {"origin": "https://evil.example"},
        {"access-control-request-method": "PUT"},
        {"access-control-request-headers": "x-secret"},
    ],
)
async def test_preflight_refused__is_a_problem(keys: DevKeys, asked: dict[str, str]) -> None:
    app = application("postgresql://nobody.invalid/none", keys, cors_origins=[PAGE])
    async with client_of(app) as client:
        refused = await client.options(candidate_path(CANDIDATE), headers=PREFLIGHT | asked)

    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["vary"].startswith("Origin")
    assert refused.json()["code"] == "cors_refused"
    assert not [value for value in asked.values() if value in refused.text]
    own = refused.headers.get("access-control-allow-origin")
    assert own == (None if "origin" in asked else PAGE)


async def test_every_answer__is_bound_to_what_it_is_for(detached: httpx2.AsyncClient) -> None:
    answer = await detached.get("/livez")
    page = await detached.get("/docs")

    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for each in (answer, page):
        assert "frame-ancestors 'none'" in each.headers["content-security-policy"]
        assert each.headers["referrer-policy"] == "no-referrer"
        assert "server" not in each.headers
