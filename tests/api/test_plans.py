"""What the API's statements really do in PostgreSQL, with row-level security on."""

import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from domain.identity import identity_range
from tests.api.rows import CANDIDATE, ORGANIZATION, Connection

ROWS_TOTAL = 20_000
FILL = f"""
    INSERT INTO candidates
    SELECT '{ORGANIZATION}', gen_random_uuid(), 'A' || n % 7, 'B' || n % 1000, n || '@b.example',
           NULL, 'new', 'job_' || n % 400, n % 6, 'web', ARRAY['t' || n % 3], '{{"a": 1}}', 1,
           now() - n * interval '1 second', now() - n % 5000 * interval '1 second'
    FROM generate_series(1, {ROWS_TOTAL}) AS n;
    INSERT INTO candidate_names
    SELECT organization_id, candidate_id, created_at, folded(first_name), folded(last_name),
           folded(email)
    FROM candidates;
    INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
                         identity, organization_id, command_id, builder, change_sequence,
                         candidate_id, version)
    SELECT now() + (n % 40) * interval '1 day', 0, n, n,
           CASE WHEN n % 100 = 0 THEN 'dead_letter' ELSE 'command' END, n, gen_random_uuid(),
           '{ORGANIZATION}', n, 1, CASE WHEN n % 100 > 0 THEN n END, md5((n % 50)::text)::uuid, n
    FROM generate_series(1, {ROWS_TOTAL}) AS n;
    ANALYZE candidates, candidate_names, journal;
"""
EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_level = 'notice';
    SET auto_explain.log_analyze = on;
    SET auto_explain.log_timing = off;
    SET plan_cache_mode = force_generic_plan;
    SET ROLE funnel_api;
"""


@pytest.fixture
async def plans(superuser: Connection) -> AsyncIterator[list[str]]:
    """The plans of whatever `superuser`, who is the API's role now, executes."""
    await superuser.execute(FILL)
    await superuser.execute(EXPLAIN)
    logged: list[str] = []

    def note(_connection: object, message: asyncpg.PostgresLogMessage) -> None:
        logged.append(str(message.message))

    superuser.add_log_listener(note)
    yield logged
    superuser.remove_log_listener(note)


def plans_of(plans: list[str], table: str) -> list[str]:
    return [plan for plan in plans if f"FROM {table} AS" in plan.partition("plan:")[2]]


async def test_candidates__are_read_by_their_key(superuser: Connection, plans: list[str]) -> None:
    await superuser.fetch(
        "SELECT * FROM read_candidates($1, $2)", [ORGANIZATION] * 2, [CANDIDATE] * 2
    )

    found = plans_of(plans, "candidates")
    assert len(found) == 2
    for plan in found:
        assert "Index Scan using candidates_pkey" in plan
        assert "Seq Scan" not in plan


async def test_commands__are_read_by_identity_and_dead_letters_by_place(
    superuser: Connection, plans: list[str]
) -> None:
    lowest, highest = identity_range(ORGANIZATION, "x")

    await superuser.fetch(
        "SELECT ended FROM read_commands($1, $2, $3, $4, $5, $6)",
        [ORGANIZATION],
        ["x"],
        [lowest],
        [highest],
        [0],
        [5],
    )

    settled, dead = plans_of(plans, "journal")
    assert "_identity_idx" in settled
    assert "_lane_source_offset_idx" in dead
    for plan in (settled, dead):
        assert "Index Scan" in plan
        assert "Seq Scan" not in plan


SORTS = ("updated_at", "-updated_at", "created_at", "-created_at", "last_name", "-last_name")
SELECTIVE: dict[str, str] = {  # filter: the index that answers it where few pass
    "q": "candidate_names_email",
    "pipeline_stage": "candidates_pipeline_stage",
    "updated_since": "candidates_updated_at",
    "created_since": "candidate_names_created_at",
}
FILTERS: dict[str, tuple[Any, ...]] = {
    "q": ("123", "b", "nobody"),
    "pipeline_stage": ("job_7", "none"),
    "updated_since": ("now", "yesterday"),
    "created_since": ("now", "yesterday"),
    "status": ("new", "hired"),
    "source": ("web", "none"),
    "rating_min": (0, 5),
    "rating_max": (0,),
    "tags": (["t1"], ["none"]),
    "attributes": ({"a": "1"}, {"a": "none"}),
}
SET_ROWS = 300
WALK_ROWS = 1000
COMBINATIONS = 80
ROWS_READ = re.compile(
    r"(?:Scan|Scan Backward) using \S+ on \w+ \w.*?actual rows=(\d+)[\d.]* loops=(\d+)"
)


def some_filter(chosen: random.Random) -> dict[str, Any]:
    names = chosen.sample(sorted(FILTERS), chosen.randrange(5))
    return {name: chosen.choice(FILTERS[name]) for name in names}


async def test_lists__use_indexes_and_look_at_no_more_than_their_bound(
    superuser: Connection, plans: list[str]
) -> None:
    chosen = random.Random(7)
    after: tuple[Any, ...] = (None, None, None)
    for number in range(COMBINATIONS):
        filters, sort = some_filter(chosen), SORTS[number % len(SORTS)]
        plans.clear()
        await superuser.fetch(
            "SELECT place_id FROM list_candidates($1, $2, $3, $4, $5, $6, 51, $7, $8)",
            ORGANIZATION,
            orjson.dumps(filters).decode(),
            sort,
            *after,
            SET_ROWS,
            WALK_ROWS,
        )
        after = (datetime.now(UTC) - timedelta(seconds=900), "b500", CANDIDATE)

        text = "\n".join(plans)
        assert "Seq Scan on candidate" not in text, (filters, sort)
        read = [int(rows) * int(loops) for rows, loops in ROWS_READ.findall(text)]
        assert len(read) > 0
        assert max(read) <= WALK_ROWS, (filters, sort, text)


@pytest.mark.parametrize("name", SELECTIVE)
async def test_list__of_few_is_found_by_their_index(
    superuser: Connection, plans: list[str], name: str
) -> None:
    for sort in SORTS:
        plans.clear()
        found = await superuser.fetch(
            "SELECT place_id FROM list_candidates($1, $2, $3, NULL, NULL, NULL, 51, $4, $5)",
            ORGANIZATION,
            orjson.dumps({name: FILTERS[name][0]}).decode(),
            sort,
            SET_ROWS,
            WALK_ROWS,
        )
        assert any(f"using {SELECTIVE[name]} on" in plan for plan in plans)
        assert len(found) <= 51


async def test_journal__is_read_by_candidate_and_by_change(
    superuser: Connection, plans: list[str]
) -> None:
    candidate = await superuser.fetchval("SELECT md5('7')::uuid")
    await superuser.execute("RESET ROLE")
    await superuser.execute(
        "INSERT INTO candidates SELECT organization_id, $1, first_name, last_name, email, phone,"
        " status, pipeline_stage, rating, source, tags, attributes, 9999, created_at,"
        " now() + interval '99 days' FROM candidates LIMIT 1",
        candidate,
    )
    await superuser.execute("SET ROLE funnel_api")
    plans.clear()

    then = datetime.now(UTC) + timedelta(days=2)
    await superuser.fetch(
        "SELECT * FROM read_past($1, $2, NULL, $3)", ORGANIZATION, candidate, then
    )
    await superuser.fetch("SELECT * FROM read_past($1, $2, 7, NULL)", ORGANIZATION, candidate)
    await superuser.fetch("SELECT * FROM read_history($1, $2, 9999, 50)", ORGANIZATION, candidate)
    past = plans_of(plans, "journal")
    plans.clear()
    await superuser.fetch("SELECT * FROM read_changes($1, $2, $3, 50)", [ORGANIZATION], [5], [then])
    await superuser.fetch("SELECT * FROM read_latest_changes($1)", [ORGANIZATION])
    feed = plans_of(plans, "journal")

    assert len(past) >= 4
    assert len(feed) == 2
    for plan, index in [(each, "candidate_id_version_idx") for each in past] + [
        (each, "change_sequence_idx") for each in feed
    ]:
        assert index in plan, plan
        assert "Seq Scan" not in plan
        assert all(int(rows) * int(loops) <= 60 for rows, loops in ROWS_READ.findall(plan)), plan
