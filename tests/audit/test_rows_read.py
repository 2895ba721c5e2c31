"""Looking back reads each row a few times, however many ranges there are, whatever statistics say.

What PostgreSQL counts is demanded, not a plan: a range for which a whole table, or a whole
organization, is read is found in any statement.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

import bench.journal_fill
from audit.database import open_audit
from audit.ranges import Range, pages, spans_of
from audit.rebuild import rebuild
from audit.seal import seal
from audit.verify import verify
from bench.journal_fill import Fill, fill
from stack.servers import Servers
from tests.audit.conftest import Connection
from tests.conftest import url_of

CANDIDATES = 4000
VERSIONS = 5
RANGE_ROWS = 400
TIMES_READ_MAX = 7
"""Of a row, by all the checks; fewer than the ranges are by far."""

SIZES = (
    "sequences.PIECE_ROWS", "states.RANGE_ROWS", "identities.SLICE_ROWS",
    "shadow.RANGE_ROWS", "chain_check.PIECE_ROWS", "seal.SEAL_RANGE_ROWS", "ranges.PAGE_ROWS",
)  # fmt: skip
TABLES = "relname ~ '^(candidate|checkpoint_|erasures|journal)'"
NO_STATISTICS = f"""
SELECT pg_clear_relation_stats('public', relname), (
    SELECT count(pg_clear_attribute_stats('public', relname, attname, false)) FROM pg_attribute
    WHERE attrelid = c.oid AND attnum > 0)
FROM pg_class AS c
WHERE relkind IN ('r', 'p', 'i') AND relnamespace = 'public'::regnamespace AND {TABLES}
"""
NO_AUTOVACUUM = """
DO $$
DECLARE
    each regclass;
BEGIN
    FOR each IN SELECT oid FROM pg_class
                WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', each);
    END LOOP;
END $$
"""
ROWS_READ = f"""
SELECT regexp_replace(relname, '_2.*', '') AS of,
       sum(coalesce(seq_tup_read, 0) + coalesce((
           SELECT sum(idx_tup_read) FROM pg_stat_user_indexes AS i WHERE i.relid = t.relid), 0)
       )::bigint AS rows_read
FROM pg_stat_user_tables AS t
WHERE schemaname = 'public' AND {TABLES}
GROUP BY 1
"""


def silent(_done: int, _total: int) -> None:
    return None


async def run_verify(url: str) -> None:
    findings = await verify(url, deduplication=timedelta(days=35), report=silent, chain_heads=[])
    assert findings.listed == []
    assert findings.rows["sealed rows"] == findings.rows["journal rows"] == CANDIDATES * VERSIONS
    assert findings.rows["candidates"] == findings.rows["names"] == CANDIDATES


async def run_rebuild(url: str) -> None:
    rebuilt = await rebuild(url, report=silent)
    assert rebuilt.findings.listed == []
    assert rebuilt.candidates == CANDIDATES


async def run_pages(url: str) -> None:
    """As an export and a republication read them."""
    async with open_audit(url, walking=True) as connection:
        (span,) = await spans_of(connection, Range())
        rows = [len(page) async for page in pages(connection, Range(), span)]
    assert sum(rows) == CANDIDATES * VERSIONS


async def run_seal(url: str) -> None:
    """All of it once more; each candidate has its salt already."""
    superuser = await asyncpg.connect(url, timeout=10)
    await superuser.execute("TRUNCATE journal_seals")
    await superuser.close(timeout=5)
    assert await seal(url, report=silent) == CANDIDATES * VERSIONS


@pytest.fixture(scope="module", params=[1, 32])
async def filled(
    request: pytest.FixtureRequest, servers: Servers, template_database: str
) -> AsyncIterator[str]:
    """A history of so many organizations a lane."""
    name = f"test_{uuid4().hex[:12]}"
    postgres = await asyncpg.connect(url_of(servers, "postgres"))
    await postgres.execute(f"CREATE DATABASE {name} TEMPLATE {template_database}")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bench.journal_fill, "ORGANIZATIONS_A_LANE", request.param)
        wanted = Fill(candidates_total=CANDIDATES, versions_total=VERSIONS, lanes_total=1)
        await fill(url_of(servers, name), wanted, report=lambda _line: None)
    await seal(url_of(servers, name), report=silent)
    yield url_of(servers, name)
    await postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await postgres.close()


@pytest.fixture
async def superuser(filled: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(filled, timeout=10)
    await connection.execute(NO_AUTOVACUUM)
    yield connection
    await connection.close(timeout=5)


@pytest.mark.parametrize("random_page_cost", [1.1, 4])
@pytest.mark.parametrize("statistics", ["VACUUM ANALYZE", NO_STATISTICS], ids=["all", "none"])
@pytest.mark.parametrize("run", [run_verify, run_rebuild, run_pages, run_seal])
async def test_rows_read__each_a_few_times(
    filled: str,
    superuser: Connection,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[[str], Awaitable[None]],
    statistics: str,
    random_page_cost: float,
) -> None:
    for size in SIZES:
        monkeypatch.setattr(f"audit.{size}", RANGE_ROWS)
    await superuser.execute(statistics)
    database = await superuser.fetchval("SELECT current_database()")
    await superuser.execute(f"ALTER DATABASE {database} SET random_page_cost = {random_page_cost}")
    await superuser.execute("SELECT pg_stat_reset()")
    await run(filled)
    read = {row["of"]: row["rows_read"] for row in await superuser.fetch(ROWS_READ)}
    assert CANDIDATES * VERSIONS <= read["journal"] <= TIMES_READ_MAX * CANDIDATES * VERSIONS
    assert read["candidates"] <= TIMES_READ_MAX * CANDIDATES
    assert read["candidate_names"] <= TIMES_READ_MAX * CANDIDATES
    assert read["journal_salts"] <= TIMES_READ_MAX * CANDIDATES * VERSIONS
