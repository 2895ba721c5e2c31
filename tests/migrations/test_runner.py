"""The runner: many at once, a lost answer to COMMIT, a refused migration, a busy lock."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from migrations import files, runner
from migrations.errors import LockBusy, MigrationFailed, SchemaOutOfDate
from migrations.files import VERSIONS, read_migrations, required_version

ROOT = Path(__file__).parents[2]


def silent(_line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Adds a migration file to a folder that stands in for `versions/`."""
    monkeypatch.setattr(files, "VERSIONS", tmp_path)

    def add(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)

    return add


async def fetch(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close(timeout=5)


async def test_migrate_up__eight_at_once_on_no_database(empty_database_url: str) -> None:
    applied = await asyncio.gather(
        *(runner.migrate_up(empty_database_url, report=silent) for _ in range(8))
    )

    everything = [each.version for each in read_migrations()]
    assert sorted(itertools.chain(*applied)) == everything
    states = await runner.status(empty_database_url)
    assert [each.version for each in states if each.applied] == everything
    assert everything[-1] == required_version()


async def test_migrate_up__again_does_nothing(database_url: str) -> None:
    assert await runner.migrate_up(database_url, report=silent) == []


async def test_migrate_up__answer_to_commit_lost_converges(
    empty_database_url: str, versions: Callable[[str, str], None]
) -> None:
    versions("0001_once.sql", "-- migrate:up\nCREATE TABLE once (id int);\n")
    lines: list[str] = []

    async with proxy_losing_first_answer_to(b"COMMIT;", empty_database_url) as url:
        await runner.migrate_up(url, report=lines.append)

    assert any("trying again" in line for line in lines)
    rows = await fetch(empty_database_url, "SELECT version FROM schema_migrations")
    assert [row["version"] for row in rows] == ["0001"]


async def test_migrate_up__refused_migration_leaves_nothing_of_it(
    empty_database_url: str, versions: Callable[[str, str], None]
) -> None:
    versions("0001_good.sql", "-- migrate:up\nCREATE TABLE good (id int);\n")
    versions("0002_bad.sql", "-- migrate:up\nCREATE TABLE bad (id int);\nSELECT 1 / 0;\n")

    with pytest.raises(MigrationFailed, match="0002 was refused by PostgreSQL: division by zero"):
        await runner.migrate_up(empty_database_url, report=silent)

    tables = await fetch(empty_database_url, "SELECT to_regclass('good') g, to_regclass('bad') b")
    assert (tables[0]["g"], tables[0]["b"]) == ("good", None)
    states = await runner.status(empty_database_url)
    assert [(each.version, each.applied) for each in states] == [("0001", True), ("0002", False)]


async def test_migrate_up__outside_a_transaction_when_the_file_says_so(
    empty_database_url: str, versions: Callable[[str, str], None]
) -> None:
    versions("0001_table.sql", "-- migrate:up\nCREATE TABLE t (id int);\n-- migrate:down\nSELEC\n")
    versions(
        "0002_index.sql",
        "-- migrate:up transaction:false\nCREATE INDEX CONCURRENTLY t_id ON t (id);\n",
    )

    assert await runner.migrate_up(empty_database_url, report=silent) == ["0001", "0002"]


async def test_migrate_up__takes_over_the_indexes_that_operations_md_builds_before_0013(
    empty_database_url: str, versions: Callable[[str, str], None]
) -> None:
    """The partitions' indexes stay the same files: nothing is read again under a lock."""

    def bring(*, below: str) -> None:
        for path in sorted(VERSIONS.glob("*.sql")):
            if path.name < below:
                versions(path.name, path.read_text())

    bring(below="0013")
    await runner.migrate_up(empty_database_url, report=silent)
    _, _, behind = (ROOT / "docs" / "operations.md").read_text().partition("```sql\n")
    built = await fetch(empty_database_url, behind.partition("\\gexec")[0])
    for (statement,) in built:
        await fetch(empty_database_url, statement)
    of_partitions = (
        "SELECT c.relfilenode FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
        "JOIN pg_inherits AS p ON p.inhrelid = i.indrelid AND p.inhparent = 'journal'::regclass "
    )
    before = {row[0] for row in await fetch(empty_database_url, of_partitions)}
    bring(below="0014")
    assert await runner.migrate_up(empty_database_url, report=silent) == ["0013"]
    taken = await fetch(
        empty_database_url,
        of_partitions + "JOIN pg_inherits AS t ON t.inhrelid = c.oid "
        "WHERE t.inhparent IN ('journal_candidate_others'::regclass, 'journal_dry_runs'::regclass)",
    )
    assert len(taken) == len(built) > 0
    assert {row[0] for row in taken} <= before


async def test_migrate_up__gives_up_on_a_lock_that_stays_busy(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOCK_S_MAX", 0.3)
    holder = await asyncpg.connect(database_url, timeout=10)
    try:
        await holder.execute("SELECT pg_advisory_lock(hashtext('gulf-funnel.migrations'))")
        with pytest.raises(LockBusy):
            await runner.migrate_up(database_url, report=silent)
    finally:
        await holder.close(timeout=5)


async def test_assert_migrated__names_what_is_missing(
    database_url: str, versions: Callable[[str, str], None]
) -> None:
    versions("0001_there.sql", "-- migrate:up\n")
    versions("9999_future.sql", "-- migrate:up\n")
    connection = await asyncpg.connect(
        database_url, timeout=10, server_settings={"role": "funnel_api"}
    )
    try:
        with pytest.raises(SchemaOutOfDate, match="lacks migrations 9999"):
            await runner.assert_migrated(connection)
    finally:
        await connection.close(timeout=5)


async def test_assert_migrated__a_newer_database_will_do(
    database_url: str, versions: Callable[[str, str], None]
) -> None:
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        await runner.assert_migrated(connection)
    finally:
        await connection.close(timeout=5)


@asynccontextmanager
async def proxy_losing_first_answer_to(request: bytes, url: str) -> AsyncIterator[str]:
    """A URL through which the first `request` is delivered and its answer is not."""
    parts = urlsplit(url)
    lost = asyncio.Event()

    async def forward(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        upstream, out = await asyncio.open_connection(parts.hostname, parts.port)
        answers = asyncio.create_task(copy(upstream, back))
        while sent := await client.read(65536):
            last = request in sent and not lost.is_set()
            if last:
                answers.cancel()
                await asyncio.wait([answers])
            out.write(sent)
            if last:
                await upstream.read(65536)  # answered, so it is true
                lost.set()
                break
        out.close()
        back.close()
        await asyncio.wait([answers])

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while got := await source.read(65536):
            target.write(got)
        target.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials = parts.netloc.rpartition("@")[0]
    try:
        yield urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}"))
    finally:
        server.close()
    assert lost.is_set()
