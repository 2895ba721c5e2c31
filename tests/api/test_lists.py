"""`GET /candidates`: filters, orders and cursors, against a plain model of what a list is."""

import random
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from fastapi import FastAPI

from api import list_queries
from domain.candidate import CandidateState
from tests.api.asking import Token, client_of, list_path
from tests.api.rows import OTHER_ORGANIZATION, Connection, Rows

States = list[CandidateState]
CANDIDATES_TOTAL = 60
NAMES = ("Al Maktoum", "al maktoum", "Müller", "MÜLLER", "Özil", "O'Neil", "Zhang", "a")


def some_states(seed: int = 1) -> States:
    chosen = random.Random(seed)
    return [
        {
            "organization_id": "0193b1c0-0000-7000-8000-00000000000a",
            "candidate_id": str(uuid.UUID(int=chosen.getrandbits(128), version=4)),
            "first_name": chosen.choice(("Zoë", "ÉMILE", "Omar")),
            "last_name": chosen.choice(NAMES),
            "email": chosen.choice(("Zoe", "omar", "50%_\\")) + f"{n}@example.ae",
            "phone": None,
            "status": chosen.choice(("new", "interview", "hired")),
            "pipeline_stage": chosen.choice((None, "tech", "tech.web", "tech.web.a", "tech_x")),
            "rating": chosen.choice((None, 0, 3, 5)),
            "source": chosen.choice((None, "web", "it's")),
            "tags": chosen.sample(["a", "b", "ال", "{x,y}"], chosen.randrange(4)),
            "attributes": chosen.choice(({}, {"n": 6, "a.b": "x y"}, {"n": "6", "on": True})),
            "version": 1,
            "created_at": f"2026-11-0{chosen.randrange(1, 9)}T08:00:00.000000Z",
            "updated_at": f"2026-11-1{chosen.randrange(1, 9)}T08:00:00.000001Z",
        }
        for n in range(CANDIDATES_TOTAL)
    ]


def _text(value: Any) -> str:
    return {True: "true", False: "false"}.get(value, str(value)) if value is not None else ""


def _begins(state: CandidateState, q: str) -> bool:
    names = state["first_name"], state["last_name"], state["email"]
    return any(name.lower().startswith(q.lower()) for name in names)


FILTERS: dict[str, Callable[[CandidateState], bool]] = {
    "": lambda _: True,
    "status=new": lambda c: c["status"] == "new",
    "pipeline_stage=tech": lambda c: (c["pipeline_stage"] or "").split(".")[0] == "tech",
    "pipeline_stage=tech.web": lambda c: (c["pipeline_stage"] or "").startswith("tech.web"),
    "source=it's": lambda c: c["source"] == "it's",
    "rating_min=1": lambda c: (c["rating"] or 0) >= 1,
    "rating_max=3": lambda c: c["rating"] is not None and c["rating"] <= 3,
    "tag=a&tag=ال": lambda c: {"a", "ال"} <= set(c["tags"]),
    "tag={x,y}": lambda c: "{x,y}" in c["tags"],
    "attribute.n=6": lambda c: _text(c["attributes"].get("n")) == "6",
    "attribute.a.b=x y&attribute.n=6": lambda c: c["attributes"].get("a.b") == "x y",
    "attribute.on=true": lambda c: c["attributes"].get("on") is True,
    "q=émi": lambda c: _begins(c, "émi"),
    "q=50%_\\": lambda c: _begins(c, "50%_\\"),
    "q=mül": lambda c: _begins(c, "mül"),
    "updated_since=2026-11-15T12:00:00+04:00": lambda c: (
        c["updated_at"] >= "2026-11-15T08:00:00.000000Z"
    ),
    "created_since=2026-11-05T08:00:00Z": lambda c: c["created_at"] >= "2026-11-05T08:00:00",
    "created_since=2026-11-03T08:00:00Z&q=z&status=new&rating_min=3": lambda c: (
        c["created_at"] >= "2026-11-03"
        and _begins(c, "z")
        and c["status"] == "new"
        and (c["rating"] or 0) >= 3
    ),
}


SORTS = {"-updated_at": 7, "created_at": 200, "last_name": 9, "-last_name": 100}
"""Each with a limit."""


def encoded(query: str) -> str:
    parts = (each.partition("=") for each in query.split("&"))
    return urlencode([(name, value) for name, _, value in parts if name])


def ordered(states: States, sort: str) -> States:
    by = sort.removeprefix("-")

    def key(state: CandidateState) -> tuple[str, str]:
        return str(state[by]).lower(), state["candidate_id"]  # type: ignore[literal-required]

    return sorted(states, key=key, reverse=sort.startswith("-"))


async def walk(client: httpx2.AsyncClient, query: str) -> tuple[States, int]:
    """All pages by the links that they give, and how many there were."""
    url, items, pages = list_path(query), [], 0
    while True:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        pages += 1
        if answer.json()["next_cursor"] is None:
            assert "link" not in answer.headers
            return items, pages
        url = answer.links["next"]["url"]


@pytest.fixture
async def states(rows: Rows) -> States:
    states = some_states()
    for state in states:
        await rows.candidate(**state)
    await rows.candidate(organization_id=OTHER_ORGANIZATION)
    return states


@pytest.fixture(params=["by sets", "by walks of a few"])
def bounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by walks of a few":
        monkeypatch.setattr(list_queries, "SET_ROWS_MAX", 1)
        monkeypatch.setattr(list_queries, "WALK_ROWS_MAX", 7)
        monkeypatch.setattr(list_queries, "WALK_ATTRIBUTES_MAX", 5)


@pytest.mark.usefixtures("bounds")
async def test_list__has_what_the_filter_says_in_order_once_each(
    client: httpx2.AsyncClient, states: States
) -> None:
    for query, passes in FILTERS.items():
        for sort, limit in SORTS.items():
            found, _ = await walk(client, f"{encoded(query)}&sort={sort}&limit={limit}")

            assert found == ordered([s for s in states if passes(s)], sort), (query, sort)


async def test_list__is_newest_first_in_pages_of_fifty(
    client: httpx2.AsyncClient, states: States
) -> None:
    answer = await client.get(list_path())

    assert answer.json()["items"] == ordered(states, "-updated_at")[:50]
    assert answer.headers["cache-control"] == "no-store"
    assert (await client.head(list_path())).headers["link"] == answer.headers["link"]
    assert (await walk(client, ""))[1] == 2


@pytest.mark.parametrize("sort", ["updated_at", "-updated_at", "-last_name"])
async def test_walk__meets_what_does_not_change_exactly_once_while_others_do(
    client: httpx2.AsyncClient, superuser: Connection, states: States, sort: str
) -> None:
    chosen = random.Random(sort)
    unchanged = {state["candidate_id"] for state in states[::2]}
    others = [state["candidate_id"] for state in states[1::2]]
    met: list[str] = []
    url = list_path(f"sort={sort}&limit=5")
    while url:
        answer = await client.get(url)
        met += [item["candidate_id"] for item in answer.json()["items"]]
        url = answer.links["next"]["url"] if "link" in answer.headers else ""
        for candidate_id in chosen.sample(others, 5):
            await superuser.execute(
                "WITH u AS (UPDATE candidates SET updated_at = now() WHERE candidate_id = $1)"
                " UPDATE candidate_names SET last_name = $2 WHERE candidate_id = $1",
                candidate_id,
                chosen.choice(NAMES).lower(),
            )
        if len(others) > 5:
            gone = others.pop()
            await superuser.execute("DELETE FROM candidates WHERE candidate_id = $1", gone)

    seen = [candidate_id for candidate_id in met if candidate_id in unchanged]
    assert len(seen) == len(set(seen))
    assert set(seen) == unchanged


MISMATCHES = ["sort=last_name", "status=new", "sort=updated_at&status=new", "tag=a"]


async def test_cursor__of_another_question_is_400(
    app: FastAPI, client: httpx2.AsyncClient, states: States, token: Token
) -> None:
    cursor = (await client.get(list_path("sort=updated_at&limit=2"))).json()["next_cursor"]
    tampered = cursor[:-1] + ("A" if cursor[-1] != "A" else "E")
    queries = [f"{each}&cursor={cursor}" for each in MISMATCHES]
    queries += [f"sort=updated_at&cursor={each}" for each in (tampered, "", "é", "A" * 5000)]

    assert (
        await client.get(list_path(f"sort=updated_at&limit=9&cursor={cursor}"))
    ).status_code == 200
    for query in queries:
        answer = await client.get(list_path(query))
        assert answer.status_code == 400, query
        assert [each["pointer"] for each in answer.json()["errors"]] == ["/query/cursor"]
    async with client_of(app, token(organization_id=OTHER_ORGANIZATION)) as other:
        path = list_path(f"sort=updated_at&cursor={cursor}")
        assert (await other.get(path)).status_code == 400


async def test_cursor__shows_nothing_of_a_name(client: httpx2.AsyncClient, states: States) -> None:
    cursor = (await client.get(list_path("sort=last_name&limit=1"))).json()["next_cursor"]
    longer = (await client.get(list_path("sort=last_name&limit=40"))).json()["next_cursor"]

    assert "maktoum" not in cursor + longer
    assert cursor[:8] != longer[:8]


@pytest.mark.parametrize(
    ("query", "where", "code"),
    [
        ("colour=red", "/query/colour", "unknown_field"),
        ("status=fired", "/query/status", "not_one_of"),
        ("status=new&status=hired", "/query/status", "too_long"),
        ("pipeline_stage=Tech", "/query/pipeline_stage", "malformed"),
        ("rating_min=6", "/query/rating_min", "out_of_range"),
        ("rating_max=x", "/query/rating_max", "wrong_type"),
        ("limit=0", "/query/limit", "out_of_range"),
        ("limit=201", "/query/limit", "out_of_range"),
        ("sort=email", "/query/sort", "not_one_of"),
        ("updated_since=2026-11-01", "/query/updated_since", "malformed"),
        ("created_since=0001-01-01T00:00:00%2B09:00", "/query/created_since", "malformed"),
        ("q=", "/query/q", "too_short"),
        ("q=%00", "/query/q", "malformed"),
        ("tag=", "/query/tag/0", "too_short"),
        ("&".join(f"tag={n}" for n in range(21)), "/query/tag", "too_long"),
        ("attribute.=1", "/query/attribute.", "too_short"),
        ("attribute=1", "/query/attribute.", "unknown_field"),
        ("attribute.x=%00", "/query/attribute.x", "malformed"),
        ("attribute.x=1&attribute.x=2", "/query/attribute.x", "too_long"),
    ],
)
async def test_bad_parameter__is_400_and_named(
    detached: httpx2.AsyncClient, token: Token, query: str, where: str, code: str
) -> None:
    answer = await detached.get(list_path(query), headers={"authorization": f"Bearer {token()}"})

    assert answer.status_code == 400
    assert [(each["pointer"], each["code"]) for each in answer.json()["errors"]] == [(where, code)]
