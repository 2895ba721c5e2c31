"""`/dead-letters`: the queue over HTTP, for operators only, worked for real."""

import asyncio
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2
import orjson
import pytest

from api.limits import ACQUIRE_S_MAX, LETTERS_S_MAX
from api.ports import DeadLettersWanted, DeskAway
from contract.record import SourceRecord
from domain.identity import home_lane
from funnel.dead_letter_desk import Desk
from funnel.redriving import RedriveSender
from tests.api.asking import Token
from tests.api.world import World
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.link import link_to

PATH = "/api/gulf-funnel/dead-letters"
OPERATOR = ("platform:operate",)


async def letter_of(world: World, client: httpx2.AsyncClient) -> dict[str, Any]:
    """A new dead letter of an organization of its own, as the queue shows it."""
    organization_id = str(uuid4())
    headers = {"ce_specversion": "1.0", "ce_id": "x", "ce_source": "/s", "ce_type": "no.such.v1"}
    value = orjson.dumps({"organization_id": organization_id, "name": "Secret"})
    pairs = tuple((name, text.encode()) for name, text in headers.items())
    lane = home_lane(organization_id, PARTITIONS_TOTAL)
    await world.raw.send(lane, SourceRecord(b"key", value, pairs, 0))
    while True:
        answer = await client.get(PATH, params={"organization_id": organization_id})
        assert answer.status_code == 200, answer.text
        if items := answer.json()["items"]:
            assert "Secret" not in answer.text
            (item,) = items
            return dict(item)


async def test_dead_letters__listed_page_by_page_and_redriven(world: World) -> None:
    async with world.client(scopes=OPERATOR, user="nora") as client:
        letters = [await letter_of(world, client) for _ in range(3)]
        first = letters[0]
        assert (first["error_code"], first["redrives_total"]) == ("unknown_type", 0)
        assert (first["redrive_of"], first["last_redrive"]) == (None, None)

        found: list[str] = []
        asked = f"error_code=unknown_type&error_code=empty&since={first['recorded_at']}"
        url = f"{PATH}?limit=1&{asked}"
        while url:
            answer = await client.get(url)
            found += [each["id"] for each in answer.json()["items"]]
            url = answer.links.get("next", {}).get("url", "")
        assert found == [each["id"] for each in letters]

        answer = await client.post(f"{PATH}/{first['id']}/redrive", headers={"prefer": "wait=20"})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["outcome"], told["reason"]) == ("dead_lettered", "unknown_type")
        answer = await client.post(f"{PATH}/{first['id']}/redrive")
        assert (answer.status_code, answer.json()["code"]) == (409, "redriven_before")
        answer = await client.get(PATH, params={"redriven": "true", "lane": first["id"][0]})
        (redriven,) = [each for each in answer.json()["items"] if each["id"] == first["id"]]
        assert redriven["last_redrive"]["by"] == "nora"
        answer = await client.get(PATH, params={"organization_id": first["organization_id"]})
        _, second = answer.json()["items"]
        assert (second["id"], second["redrive_of"]) == (told["ended"], first["id"])
        answer = await client.post(
            f"{PATH}/{second['id']}/redrive?again=true", headers={"prefer": "wait=0"}
        )
        assert answer.status_code in (200, 202)
        answer = await client.post(f"{PATH}/3-999999/redrive")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "query",
    [
        "error_code=nonsense", "since=yesterday", "since=2026-01-01T00:00:00", "lane=-1",
        "limit=0", "limit=201", "redriven=maybe", "cursor=x", "cursor=1.2", "organization_id=1",
        "page=2", "lane=1&lane=2",
    ],
)  # fmt: skip
async def test_dead_letters__a_bad_parameter_is_400(world: World, query: str) -> None:
    async with world.client(scopes=OPERATOR) as client:
        answer = await client.get(f"{PATH}?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    (error,) = answer.json()["errors"]
    assert error["pointer"].startswith(f"/query/{query.partition('=')[0]}")


async def test_dead_letters__a_bad_id_is_400(world: World) -> None:
    async with world.client(scopes=OPERATOR) as client:
        for path in (f"{PATH}/x/redrive", f"{PATH}/1-0/redrive", f"{PATH}/1-1/redrive?again=2"):
            assert (await client.post(path)).status_code == 400


async def test_dead_letters__away_is_503(detached: httpx2.AsyncClient, token: Token) -> None:
    headers = {"authorization": f"Bearer {token(scopes=OPERATOR)}"}
    answer = await detached.get(PATH, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_desk__a_database_that_falls_silent_is_away_and_comes_back(
    world: World, database_url: str
) -> None:
    wanted = DeadLettersWanted(organization_id=str(uuid4()), limit=1)
    address = urlsplit(database_url)
    async with (
        link_to(str(address.hostname), address.port or 0) as link,
        Desk(link.url(database_url), RedriveSender(world.raw)).running() as desk,
    ):
        assert await desk.page(wanted) == []

        link.fall_silent()
        async with asyncio.timeout(LETTERS_S_MAX + 10 * ACQUIRE_S_MAX):
            with pytest.raises(DeskAway):
                await desk.page(wanted)

        link.heal()
        assert await desk.page(wanted) == []
