"""What is written is read at once, everywhere: lists, history, the past, the feed."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx2

from api.dev_keys import DevKeys
from tests.api.asking import (
    Token,
    all_candidates_path,
    application,
    candidate_path,
    changes_path,
    client_of,
    history_path,
    list_path,
    running,
)
from tests.api.world import PERSON, World

MOVED = {"pipeline_stage": "tech.onsite"}


async def test_writes__are_listed_told_and_fed_at_once(world: World) -> None:
    async with world.client() as client:
        created = (await client.post(all_candidates_path(), json=PERSON)).json()
        path = candidate_path(created["candidate_id"])
        now = (await client.get(changes_path("after=now"))).json()["next_cursor"]
        waiting = asyncio.create_task(_change_after(client, now))
        await client.patch(path, json={"last_name": "Byron", "rating": 5})
        moved = (await client.patch(path, json=MOVED)).json()

        for query, found in [
            ("q=byr", [moved]),
            ("q=lovelace", []),
            ("q=ADA@", [moved]),
            ("sort=last_name&pipeline_stage=tech", [moved]),
            ("sort=created_at&rating_min=5", [moved]),
        ]:
            assert (await client.get(list_path(query))).json()["items"] == found, query
        steps = (await client.get(history_path(created["candidate_id"]))).json()["items"]
        assert [sorted(step["changed"]) for step in steps[:2]] == [
            ["pipeline_stage"],
            ["last_name", "rating"],
        ]
        assert (await client.get(f"{path}?version=1")).json() == created
        assert (await client.get(f"{path}?as_of={created['updated_at']}")).json() == created
        assert (await waiting)["data"]["version"] == 2
        feed = (await client.get(changes_path())).json()["items"]
        assert [event["data"]["version"] for event in feed] == [1, 2, 3]
        assert feed[-1]["data"]["state"] == moved


async def test_writes__are_read_at_once_by_an_application_of_its_own(
    world: World, keys: DevKeys, token: Token
) -> None:
    """With its own connections, as another process has them: what is answered can be read there."""
    claims = {"organization_id": str(uuid4())}
    async with (
        running(application(world.database_url, keys, topics=world.topics)) as other,
        world.client(**claims) as writing,
        client_of(other, token(**claims)) as reading,
    ):
        written = (await writing.post(all_candidates_path(), json=PERSON)).json()
        path = candidate_path(written["candidate_id"])
        for rating in (1, 2, 3, 4, 5):
            assert (await reading.get(path)).json() == written
            written = (await writing.patch(path, json={"rating": rating})).json()
            assert written["version"] == rating + 1
        assert (await reading.get(path)).json() == written


async def test_erased_candidate__is_nowhere_and_the_feed_says_so(world: World) -> None:
    async with world.client() as client:
        created = (await client.post(all_candidates_path(), json=PERSON)).json()
        path = candidate_path(created["candidate_id"])
        before = (await client.get(changes_path())).json()["next_cursor"]

        await client.delete(f"{path}?reason=asked", headers={"prefer": "wait=10"})
        told = await _change_after(client, before)

        assert (told["type"], told["data"]) == ("candidate.erased.v1", None)
        assert told["subject"] == created["candidate_id"]
        for query in ("", "q=ada", "sort=last_name"):
            assert (await client.get(list_path(query))).json()["items"] == []
        for gone in (path, f"{path}?version=1", history_path(created["candidate_id"])):
            assert (await client.get(gone)).status_code == 404


async def _change_after(client: httpx2.AsyncClient, cursor: str) -> dict[str, Any]:
    answer = await client.get(changes_path(f"after={cursor}"), headers={"prefer": "wait=30"})
    items: list[dict[str, Any]] = answer.json()["items"]
    return items[0]
