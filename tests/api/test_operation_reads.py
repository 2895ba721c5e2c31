"""The statements that read bulk operations: each of two walls holds alone, and an index is used."""

import re
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from tests.api.rows import ORGANIZATION, OTHER_ORGANIZATION, Connection

OPERATION = str(uuid4())
FILL = f"""
    INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source,
                                 actor, type, changes, on_conflict, dry_run, status, total,
                                 pending, created_at, updated_at)
    SELECT '{OTHER_ORGANIZATION}', CASE n WHEN 1 THEN '{OPERATION}' ELSE gen_random_uuid() END,
           0, n, '/tests', 'ada', 'candidate.bulk-update.v1', '{{"rating": 1}}', 'reject', false,
           'running', 100, 100, now() + n * interval '1 s', now()
    FROM generate_series(1, 5000) AS n;
    INSERT INTO bulk_operation_items
    SELECT '{OTHER_ORGANIZATION}', '{OPERATION}', n, gen_random_uuid(), 'applied', 2
    FROM generate_series(0, 4999) AS n;
    INSERT INTO bulk_operation_chunks
    SELECT '{OTHER_ORGANIZATION}', '{OPERATION}', 5000 + n * 2,
           ARRAY[gen_random_uuid(), gen_random_uuid()]
    FROM generate_series(0, 2499) AS n;
    ANALYZE bulk_operations, bulk_operation_items, bulk_operation_chunks;
"""
READS = {
    "read_operations": "SELECT 1 FROM read_operations(ARRAY[$1::uuid], ARRAY[$2::uuid])",
    "list_operations": "SELECT 1 FROM list_operations($1, NULL, NULL, NULL, 10) "
    "WHERE $2::uuid IS NOT NULL",
    "list_operation_items": "SELECT 1 FROM list_operation_items($1, $2, NULL, -1, 10)",
}
PREDICATE = re.compile(r"\w+\.organization_id = (asked\.organization_id|organization)\s+AND ")
TABLES = ("bulk_operations", "bulk_operation_items", "bulk_operation_chunks")


@pytest.fixture
async def reader(database_url: str, superuser: Connection) -> AsyncIterator[Connection]:
    """As the API connects, to a database with operations of another organization."""
    await superuser.execute(FILL)
    connection = await asyncpg.connect(database_url, server_settings={"role": "funnel_api"})
    yield connection
    await connection.close()


async def test_another_organizations_operations__are_hidden_by_each_wall_alone(
    reader: Connection, superuser: Connection
) -> None:
    async def seen(organization_id: str) -> dict[str, int]:
        return {
            name: len(await reader.fetch(read, organization_id, OPERATION))
            for name, read in READS.items()
        }

    nothing = dict.fromkeys(READS, 0)
    whole = {
        name: await superuser.fetchval("SELECT pg_get_functiondef($1::regproc)", name)
        for name in READS
    }
    assert await seen(OTHER_ORGANIZATION) == {
        "read_operations": 1,
        "list_operations": 10,
        "list_operation_items": 20,
    }
    assert await seen(ORGANIZATION) == nothing

    for definition in whole.values():
        copy, removed = PREDICATE.subn("", definition)
        assert removed
        await superuser.execute(copy)
    assert await seen(ORGANIZATION) == nothing

    for table in TABLES:
        await superuser.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
    assert all((await seen(ORGANIZATION)).values()), "without both walls there is a leak to see"

    for definition in whole.values():
        await superuser.execute(definition)
    assert await seen(ORGANIZATION) == nothing


EXPLAIN = """
    LOAD 'auto_explain';
    SET auto_explain.log_min_duration = 0;
    SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_level = 'notice';
    SET plan_cache_mode = force_generic_plan;
    SET ROLE funnel_api;
"""


@pytest.mark.usefixtures("reader")
async def test_operations__are_read_by_their_indexes(superuser: Connection) -> None:
    plans: list[str] = []
    superuser.add_log_listener(lambda _connection, message: plans.append(str(message.message)))
    await superuser.execute(EXPLAIN)

    for read in READS.values():
        await superuser.fetch(read, OTHER_ORGANIZATION, OPERATION)

    text = "\n".join(plans)
    for index in (
        "bulk_operations_pkey",
        "bulk_operations_newest",
        "bulk_operation_items_pkey",
        "bulk_operation_chunks_pkey",
    ):
        assert re.search(rf"Index Scan (Backward )?using {index}", text), text
    assert "Seq Scan" not in text
