"""Every route that names a thing by its id, writes among them, asked by another organization."""

from typing import Any
from uuid import uuid4

import httpx2

from tests.api.asking import all_candidates_path, candidate_path
from tests.api.routes import guarded_routes
from tests.api.rows import CANDIDATE
from tests.api.world import PERSON, World

ASKED: dict[str, dict[str, Any]] = {
    "PATCH": {"json": {"rating": 1}},
    "DELETE": {"params": {"reason": "test"}},
}
STEERING = 4
READING = 5  # a candidate, its history; an operation, its items, its events


async def test_every_route__has_nothing_of_another_organization(
    world: World, writer: httpx2.AsyncClient
) -> None:
    candidate = (await writer.post(all_candidates_path(), json=PERSON)).json()
    candidate_id = candidate["candidate_id"]
    body = {"candidate_ids": [candidate_id], "field": "rating", "value": 3}
    bulk = (await writer.post(f"{all_candidates_path()}/bulk-update", json=body)).json()
    before = (await writer.get(candidate_path(candidate_id))).content
    named = [route for route in guarded_routes(world.app) if CANDIDATE in route.path]
    assert len(named) == READING + STEERING + len(ASKED)

    async with world.client() as stranger:
        for method, path, _ in named:
            real = bulk["operation_id"] if "bulk-operations" in path else candidate_id
            theirs = await stranger.request(
                method, path.replace(CANDIDATE, real), **ASKED.get(method, {})
            )
            nowhere = await stranger.request(
                method, path.replace(CANDIDATE, str(uuid4())), **ASKED.get(method, {})
            )
            assert (theirs.status_code, theirs.json()["code"]) == (404, "not_found"), path
            assert (nowhere.status_code, nowhere.content) == (404, theirs.content), path

    assert (await writer.get(candidate_path(candidate_id))).content == before
