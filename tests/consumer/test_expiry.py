"""Operations that ended long ago go in steps of so many rows, and no step locks a table."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from consumer.operation_store import OperationStore
from consumer.sqlfiles import statement
from consumer.store import open_pool
from domain.limits import EXPIRE_ROWS_MAX

RETENTION = timedelta(days=30)
ITEMS = 200_000
SMALL = 1000

FILL = f"""
INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id, command_source, actor,
    type, changes, on_conflict, dry_run, status, total, applied, pending, created_at, updated_at,
    completed_at)
SELECT md5('o')::uuid, md5(n::text)::uuid, 0, 'c', '/s', 'me', 't', '{{}}', 'reject', false,
    'completed', total, total, 0, ended, ended, ended
FROM (SELECT n, CASE n WHEN {SMALL // 2} THEN {ITEMS} ELSE 3 END AS total,
             now() - CASE n WHEN 0 THEN interval '29 days' ELSE interval '31 days' END AS ended
      FROM generate_series(0, {SMALL}) AS n) AS each;

INSERT INTO bulk_operation_items
SELECT organization_id, operation_id, ordinal, gen_random_uuid(), 'applied', 2
FROM bulk_operations, generate_series(0, total - 1) AS ordinal;

ANALYZE bulk_operations, bulk_operation_items;
"""
COUNTS = """
SELECT (SELECT count(*) FROM bulk_operations), (SELECT count(*) FROM bulk_operation_items)
"""
TABLE_LOCKS = """
SELECT DISTINCT l.mode FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
WHERE c.relname LIKE 'bulk_operation%'
"""


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(database_url, lease=timedelta(seconds=60), lanes_max=1)
    yield opened
    await opened.close()


async def test_expire__is_bounded_by_rows_not_by_operations(
    database_url: str, pool: asyncpg.Pool
) -> None:
    database = await asyncpg.connect(database_url)
    await database.execute(FILL)
    store = OperationStore(pool, chunk_items=1000)
    before, steps = tuple(await database.fetchrow(COUNTS) or ()), 0
    while told := await store.expire(0, RETENTION, step=EXPIRE_ROWS_MAX):
        steps += 1
        after = tuple(await database.fetchrow(COUNTS) or ())
        operations, items = before[0] - after[0], before[1] - after[1]
        assert operations + items == told
        assert items <= EXPIRE_ROWS_MAX
        assert operations <= EXPIRE_ROWS_MAX
        # One that has lost items is marked until it goes: nobody holds them against it.
        damaged = await database.fetchval(
            "SELECT count(*) FROM bulk_operations AS o WHERE o.error IS NULL AND o.total <> ("
            " SELECT count(*) FROM bulk_operation_items AS i"
            " WHERE (i.organization_id, i.operation_id) = (o.organization_id, o.operation_id))"
        )
        assert damaged == 0
        before = after
    assert steps >= ITEMS // EXPIRE_ROWS_MAX
    assert before == (1, 3)
    await database.close()


async def test_expire__locks_rows_only(database_url: str, pool: asyncpg.Pool) -> None:
    """Beside it, lanes write items and begin operations; what they may not do is wait."""
    database = await asyncpg.connect(database_url)
    await database.execute(FILL)
    async with pool.acquire() as connection, connection.transaction():
        await connection.fetchval(statement("expire_operations"), 0, RETENTION, EXPIRE_ROWS_MAX)
        modes = {row["mode"] for row in await database.fetch(TABLE_LOCKS)}
        assert modes <= {"AccessShareLock", "RowExclusiveLock", "RowShareLock"}
        await database.execute("SET lock_timeout = '1s'")
        await database.execute(
            "UPDATE bulk_operations SET updated_at = now() WHERE operation_id = md5('0')::uuid"
        )
    await database.close()
