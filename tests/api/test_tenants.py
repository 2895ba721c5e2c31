"""Two walls between organizations, each of which holds alone."""

import re
from collections.abc import AsyncIterator

import asyncpg
import httpx2
import pytest
from fastapi import FastAPI

from domain.identity import Identity
from tests.api.asking import (
    Token,
    candidate_path,
    changes_path,
    client_of,
    command_path,
    history_path,
    list_path,
)
from tests.api.rows import (
    CANDIDATE,
    ORGANIZATION,
    OTHER_ORGANIZATION,
    SOURCE,
    Connection,
    Rows,
)

COMMAND = "order-1"
POSITION = "2:41"
PREDICATE = re.compile(
    r"\w+\.organization_id = (?:asked\.organization_id|organization|\$1)\s+AND\b"
)
FUNCTIONS = {
    "read_candidates": 1,
    "read_commands": 2,
    "read_past": 4,
    "read_history": 2,
    "read_changes": 1,
    "read_latest_changes": 1,
    "list_candidates": 9,
}
"""Those that read for the API, and how often each names the organization."""

ALL_ROUTES = [
    candidate_path(CANDIDATE),
    command_path(COMMAND),
    f"{command_path(COMMAND)}?source={SOURCE}",
    f"{command_path('lost')}?position={POSITION}",
    f"{candidate_path(CANDIDATE)}?version=7",
    f"{candidate_path(CANDIDATE)}?version=1",
    f"{candidate_path(CANDIDATE)}?as_of=2100-01-01T00:00:00Z",
    history_path(CANDIDATE),
]
ALL_LISTS = [
    list_path(),
    list_path("sort=last_name&status=interview&tag=python"),
    list_path("q=al"),
    list_path("pipeline_stage=tech"),
    list_path("created_since=2001-01-01T00:00:00Z"),
    list_path("updated_since=2001-01-01T00:00:00Z&sort=created_at"),
    changes_path(),
]


@pytest.fixture
async def of_the_other(rows: Rows) -> None:
    """One of everything that belongs to another organization, under keys that ours would use."""
    await rows.lanes()
    await rows.move_lane(2, next_offset=100)
    state = await rows.candidate(organization_id=OTHER_ORGANIZATION)
    await rows.changed(1, state)
    await rows.settled(
        COMMAND,
        organization_id=OTHER_ORGANIZATION,
        identity=Identity(ORGANIZATION, SOURCE, COMMAND).key,
    )
    await rows.dead_letter(
        organization_id=OTHER_ORGANIZATION, lane=2, source_offset=41, command_id="lost"
    )


async def without_predicate(superuser: Connection) -> None:
    for name, total in FUNCTIONS.items():
        definition = await superuser.fetchval("SELECT pg_get_functiondef($1::regproc)", name)
        copy, removed = PREDICATE.subn("", definition)
        assert removed == total
        await superuser.execute(copy)


async def without_row_security(superuser: Connection) -> None:
    for table in ("candidates", "candidate_names", "journal"):
        await superuser.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


@pytest.fixture(params=["both walls", "row-level security alone", "the predicate alone"])
async def walls(request: pytest.FixtureRequest, superuser: Connection) -> None:
    if request.param == "row-level security alone":
        await without_predicate(superuser)
    if request.param == "the predicate alone":
        await without_row_security(superuser)


@pytest.mark.usefixtures("of_the_other", "walls")
async def test_another_organization__is_answered_as_what_does_not_exist(
    client: httpx2.AsyncClient,
) -> None:
    for route in ALL_ROUTES:
        theirs = await client.get(route)
        nowhere = await client.get(route.replace("order-1", "order-2").replace("00c1", "00c2"))

        assert theirs.status_code == nowhere.status_code == 404, route
        assert theirs.content == nowhere.content


WORK = """
SELECT relname, 'table', coalesce(seq_tup_read, 0), coalesce(idx_scan, 0),
       coalesce(idx_tup_fetch, 0)
FROM pg_stat_user_tables
UNION ALL
SELECT indexrelname, 'index', 0, coalesce(idx_scan, 0), coalesce(idx_tup_read, 0)
FROM pg_stat_user_indexes
"""
OPERATION = f"/api/gulf-funnel/bulk-operations/{CANDIDATE}"


async def test_another_organizations_id__takes_the_same_statements_and_the_same_work(
    client: httpx2.AsyncClient,
    app: FastAPI,
    rows: Rows,
    superuser: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What PostgreSQL looks up and reads for it is counted: so no clock can tell them apart."""
    await rows.lanes()
    state = await rows.candidate(organization_id=OTHER_ORGANIZATION)
    await rows.changed(1, state)
    await rows.settled(COMMAND, organization_id=OTHER_ORGANIZATION)
    await superuser.execute(
        """INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id,
               command_source, actor, type, changes, on_conflict, dry_run, status, total, pending,
               created_at, updated_at)
           VALUES ($1, $2, 0, 'c', '/s', 'me', 't', '{}', 'reject', false, 'running', 1, 1, now(),
               now())""",
        OTHER_ORGANIZATION, CANDIDATE,
    )  # fmt: skip
    database = app.state.read_tools.database
    statements: list[str] = []
    fetch = database.fetch

    async def fetch_noted(sql: str, *arguments: object) -> object:
        statements.append(sql)
        return await fetch(sql, *arguments)

    monkeypatch.setattr(database, "fetch", fetch_noted)

    async def counted() -> dict[tuple[str, str], tuple[int, ...]]:
        await fetch("SELECT pg_stat_force_next_flush()")
        found = await superuser.fetch(WORK)
        return {(row[0], row[1]): tuple(row)[2:] for row in found}

    async def asked(path: str) -> tuple[int, list[str], dict[tuple[str, str], tuple[int, ...]]]:
        statements.clear()
        before = await counted()
        answer = await client.get(path)
        after = await counted()
        work = {
            name: tuple(now - then for now, then in zip(after[name], before[name], strict=True))
            for name in after
            if after[name] != before[name]
        }
        return answer.status_code, [*statements], work

    routes = [each for each in ALL_ROUTES if "position" not in each]
    for route in [*routes, OPERATION, f"{OPERATION}/items", f"{OPERATION}/events"]:
        nowhere = route.replace("order-1", "order-2").replace("00c1", "00c2")
        for _ in range(10):  # PostgreSQL has settled for a plan
            await client.get(nowhere)
        theirs = await asked(route)

        assert theirs == await asked(nowhere), route
        assert theirs[0] == 404
        assert theirs[1], route  # PostgreSQL was asked
        assert theirs[2], route  # and what it did was seen


@pytest.mark.usefixtures("of_the_other", "walls")
async def test_lists__have_nothing_of_another_organization(
    client: httpx2.AsyncClient, app: FastAPI, token: Token
) -> None:
    async with client_of(app, token(organization_id=OTHER_ORGANIZATION)) as owner:
        for route in ALL_LISTS:
            assert (await client.get(route)).json()["items"] == []
            assert len((await owner.get(route)).json()["items"]) == 1
        newest = await client.get(changes_path("after=now"))
        beginning = await client.get(changes_path())
        assert newest.content == beginning.content


@pytest.mark.usefixtures("of_the_other")
async def test_lists_without_both_walls__would_show_the_leak(
    client: httpx2.AsyncClient, superuser: Connection
) -> None:
    await without_predicate(superuser)
    await without_row_security(superuser)

    for route in ALL_LISTS:
        assert len((await client.get(route)).json()["items"]) == 1, route


@pytest.mark.usefixtures("of_the_other", "walls")
async def test_the_other_organization__sees_its_own(app: FastAPI, token: Token) -> None:
    async with client_of(app, token(organization_id=OTHER_ORGANIZATION)) as owner:
        for route in (ALL_ROUTES[0], *ALL_ROUTES[3:]):
            assert (await owner.get(route)).status_code == 200, route


@pytest.mark.usefixtures("of_the_other")
async def test_without_both_walls__this_test_would_see_the_leak(
    client: httpx2.AsyncClient, superuser: Connection
) -> None:
    await without_predicate(superuser)
    await without_row_security(superuser)

    for route in ALL_ROUTES[1:]:
        assert (await client.get(route)).status_code == 200, route


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Connection]:
    """As the API connects."""
    connection = await asyncpg.connect(database_url, server_settings={"role": "funnel_api"})
    yield connection
    await connection.close()


READ = "SELECT organization_id::text FROM read_candidates($1, $2)"


@pytest.mark.usefixtures("walls")
async def test_questions_of_two_organizations_in_one_query__do_not_mix(
    reader: Connection, rows: Rows
) -> None:
    await rows.candidate()
    await rows.candidate(organization_id=OTHER_ORGANIZATION)
    asked = [ORGANIZATION, OTHER_ORGANIZATION, ORGANIZATION]

    found = await reader.fetch(READ, asked, [CANDIDATE] * 3)

    assert [row[0] for row in found] == asked


@pytest.mark.usefixtures("of_the_other")
async def test_without_both_walls__the_statement_leaks_a_candidate(
    reader: Connection, superuser: Connection
) -> None:
    await without_predicate(superuser)
    assert await reader.fetch(READ, [ORGANIZATION], [CANDIDATE]) == []
    await without_row_security(superuser)

    assert len(await reader.fetch(READ, [ORGANIZATION], [CANDIDATE])) == 1


async def test_organization__is_forgotten_after_the_statement(
    reader: Connection, rows: Rows
) -> None:
    await rows.candidate()
    await reader.fetch(READ, [ORGANIZATION], [CANDIDATE])

    assert await reader.fetchval("SELECT count(*) FROM candidates") == 0
