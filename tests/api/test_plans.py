"""What the API's statements really do in PostgreSQL, with row-level security on."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from domain.identity import identity_prefix
from tests.api.rows import CANDIDATE, ORGANIZATION, Connection

ROWS_TOTAL = 20_000
FILL = f"""
    INSERT INTO candidates
    SELECT '{ORGANIZATION}', gen_random_uuid(), 'A', 'B', 'a@b.example', NULL, 'new', NULL, NULL,
           NULL, '{{}}', '{{}}', 1, now(), now()
    FROM generate_series(1, {ROWS_TOTAL});
    INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
                         identity, organization_id, command_id, builder)
    SELECT now() + (n % 40) * interval '1 day', 0, n, n,
           CASE WHEN n % 100 = 0 THEN 'dead_letter' ELSE 'command' END, n, gen_random_uuid(),
           '{ORGANIZATION}', n, 1
    FROM generate_series(1, {ROWS_TOTAL}) AS n;
    ANALYZE candidates, journal;
"""
EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_level = 'notice';
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
    prefix = identity_prefix(ORGANIZATION, "x")

    await superuser.fetch(
        "SELECT ended FROM read_commands($1, $2, $3, $4, $5, $6)",
        [ORGANIZATION],
        ["x"],
        [prefix + "0" * 16],
        [prefix + "f" * 16],
        [0],
        [5],
    )

    settled, dead = plans_of(plans, "journal")
    assert "_identity_idx" in settled
    assert "_lane_source_offset_idx" in dead
    for plan in (settled, dead):
        assert "Index Scan" in plan
        assert "Seq Scan" not in plan
