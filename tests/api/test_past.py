"""A candidate as it was, and its history, told by the journal."""

from datetime import timedelta

import httpx2
import pytest

from contract.journal import timestamp_text
from domain.candidate import CandidateState
from tests.api.asking import Token, candidate_path, history_path
from tests.api.rows import CANDIDATE, NOW, Connection, Rows, candidate_state

PATH = candidate_path(CANDIDATE)
HISTORY = history_path(CANDIDATE)


@pytest.fixture
async def states(rows: Rows) -> dict[int, CandidateState]:
    """Versions 3 to 6 in the journal, a minute apart; the first two are no longer there."""
    states = {
        version: candidate_state(
            version=version,
            rating=version % 6,
            updated_at=timestamp_text(NOW + timedelta(minutes=version)),
        )
        for version in range(3, 7)
    }
    for version, state in states.items():
        instant = NOW + timedelta(minutes=version)
        await rows.changed(version, state, recorded_at=instant)
    await rows.candidate(**states[6])
    return states


async def test_version__is_the_state_of_its_change_event(
    client: httpx2.AsyncClient, states: dict[int, CandidateState]
) -> None:
    for version, state in states.items():
        answer = await client.get(f"{PATH}?version={version}")
        assert answer.json() == state
        assert answer.headers["etag"] == f'"{version}"'
    unchanged = await client.get(f"{PATH}?version=4", headers={"if-none-match": '"4"'})
    assert unchanged.status_code == 304


STATUSES = {
    "version=2": 410,
    "version=7": 404,
    "as_of={0}": 410,
    "as_of=2001-01-01T00:00:00Z": 410,
    "version=0": 400,
    "version=x": 400,
    "as_of=yesterday": 400,
    "version=3&version=4": 400,
    "version=3&as_of=2026-11-01T00:00:00Z": 400,
}


async def test_past_that_is_not_there__is_told_apart(
    client: httpx2.AsyncClient, states: dict[int, CandidateState]
) -> None:
    for query, status in STATUSES.items():
        asked = query.format(timestamp_text(NOW + timedelta(minutes=2)))
        assert (await client.get(f"{PATH}?{asked}")).status_code == status, query


async def test_as_of__is_the_newest_version_of_then(
    client: httpx2.AsyncClient, states: dict[int, CandidateState], rows: Rows
) -> None:
    for seconds, version in ((180, 3), (239, 3), (240, 4), (10_000, 6)):
        instant = (NOW + timedelta(seconds=seconds)).isoformat()
        assert (await client.get(f"{PATH}?as_of={instant}")).json()["version"] == version

    born = candidate_state(candidate_id=CANDIDATE.replace("c1", "c2"), version=1)
    await rows.changed(1, born, recorded_at=NOW)
    await rows.changed(2, born, recorded_at=NOW + timedelta(minutes=1))
    await rows.candidate(**{**born, "version": 2})
    before = (NOW - timedelta(seconds=1)).isoformat()
    path = candidate_path(born["candidate_id"])
    assert (await client.get(f"{path}?as_of={before}")).status_code == 404


async def test_newest_version__needs_no_journal(client: httpx2.AsyncClient, rows: Rows) -> None:
    state = await rows.candidate()

    for query in ("version=7", "as_of=2100-01-01T00:00:00Z"):
        assert (await client.get(f"{PATH}?{query}")).json() == state
    assert (await client.get(HISTORY)).json() == {"items": [], "next_cursor": None}


async def test_history__is_newest_first_in_pages(
    client: httpx2.AsyncClient, states: dict[int, CandidateState]
) -> None:
    items, url = [], f"{HISTORY}?limit=3"
    while url:
        answer = await client.get(url)
        items += answer.json()["items"]
        url = answer.links["next"]["url"] if "link" in answer.headers else ""

    assert [item["version"] for item in items] == [6, 5, 4, 3]
    assert items[0] == {
        "version": 6,
        "previous_version": 5,
        "changed": {"rating": {"from": None, "to": 0}},
        "actor": "somebody",
        "command_id": "c1-6",
        "command_source": "/upstream",
        "command_type": "candidate.update.v1",
        "recorded_at": timestamp_text(NOW + timedelta(minutes=6)),
    }


async def test_erased__is_404_with_all_its_past(
    client: httpx2.AsyncClient, states: dict[int, CandidateState], superuser: Connection
) -> None:
    await superuser.execute("UPDATE journal SET change = NULL; DELETE FROM candidates")

    for path in (PATH, f"{PATH}?version=4", f"{PATH}?as_of=2100-01-01T00:00:00Z", HISTORY):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["detail"]) == (404, "Candidate not found.")


async def test_if_match__demands_this_version(client: httpx2.AsyncClient, rows: Rows) -> None:
    await rows.candidate()
    statuses = {'"7"': 200, '"6", "7"': 200, "*": 200, '"6"': 412, 'W/"7"': 412}

    for tag, status in statuses.items():
        answer = await client.get(PATH, headers={"if-match": tag})
        assert (answer.status_code, answer.headers["etag"]) == (status, '"7"')


async def test_history__refuses_what_it_does_not_know(
    detached: httpx2.AsyncClient, token: Token
) -> None:
    authorization = {"authorization": f"Bearer {token()}"}

    for query in ("limit=201", "cursor=x", "q=a", "limit=1&limit=2"):
        answer = await detached.get(f"{HISTORY}?{query}", headers=authorization)
        assert answer.status_code == 400
    answer = await detached.get(history_path("1"), headers=authorization)
    assert answer.json()["errors"][0]["pointer"] == "/path/candidate_id"
