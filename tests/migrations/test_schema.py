"""schema.sql tells the truth, the migrations are lint-clean, and the grants hold."""

import asyncio
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

import migrations
from migrations.files import Migration, read_migrations
from migrations.runner import Connection
from stack.postgres import postgres_programs

ORGANIZATION = uuid.UUID(int=1)
OTHER_ORGANIZATION = uuid.UUID(int=2)

INSERT_CANDIDATE = """
    INSERT INTO candidates (organization_id, candidate_id, first_name, last_name, email, status,
                            tags, attributes, version, created_at, updated_at)
    VALUES ($1, $2, 'A', 'B', 'a@b.example', 'new', '{}', '{}', 1, now(), now())
"""
INSERT_JOURNAL = """
    INSERT INTO {} (recorded_at, lane, journal_sequence, result_sequence, kind, source_offset,
                         organization_id, builder)
    VALUES (now(), 0, $1, $1, 'command', 0, $2, 1)
"""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def test_schema_sql__equals_the_sum_of_the_migrations(
    database_url: str, empty_database_url: str
) -> None:
    name = empty_database_url.rpartition("/")[2]
    await execute(database_url, f"CREATE DATABASE {name}")
    schema = Path(migrations.__file__ or "").parent / "schema.sql"
    await execute(empty_database_url, schema.read_text())

    from_migrations, from_schema = await asyncio.gather(
        dump(database_url), dump(empty_database_url)
    )

    assert from_schema == from_migrations


@pytest.mark.parametrize("migration", read_migrations(), ids=lambda each: each.version)
def test_migration__is_lint_clean(migration: Migration) -> None:
    squawk = Path(sys.executable).with_name("squawk")
    done = subprocess.run(
        [squawk, "--reporter=gcc", f"--stdin-filepath={migration.version}_{migration.name}.sql"],
        input=migration.up,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "change", ["UPDATE {} SET lane = 1", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"]
)
async def test_grants__consumer_adds_to_the_journal_and_changes_nothing_in_it(
    owner: Connection, change: str
) -> None:
    rows = await owner.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'journal'::regclass ORDER BY name"
    )
    partitions = [row["name"] for row in rows]
    await owner.execute("SET ROLE funnel_consumer")

    await owner.execute(INSERT_JOURNAL.format(partitions[0]), 1, ORGANIZATION)
    for table in ("journal", *partitions):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(change.format(table))


async def test_grants__api_sees_the_organization_it_names_and_no_other(
    owner: Connection,
) -> None:
    for sequence, organization in enumerate((ORGANIZATION, OTHER_ORGANIZATION), start=1):
        await owner.execute(INSERT_CANDIDATE, organization, uuid.uuid4())
        await owner.execute(INSERT_JOURNAL.format("journal"), sequence, organization)
    await owner.execute("SET ROLE funnel_api")

    for table in ("candidates", "journal"):
        assert await organizations(owner, table) == []
    await owner.execute(f"SET funnel.organization_id = '{ORGANIZATION}'")
    for table in ("candidates", "journal"):
        assert await organizations(owner, table) == [ORGANIZATION]


@pytest.mark.parametrize("role", ["funnel_api", "funnel_audit"])
@pytest.mark.parametrize("table", ["candidates", "journal", "lanes"])
async def test_grants__readers_cannot_write(owner: Connection, role: str, table: str) -> None:
    await owner.execute(f"SET ROLE {role}")

    for statement in (f"DELETE FROM {table}", f"INSERT INTO {table} DEFAULT VALUES"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)


@pytest.mark.parametrize("role", ["funnel_api", "funnel_audit"])
async def test_grants__only_the_consumer_makes_partitions(owner: Connection, role: str) -> None:
    await owner.execute("SET ROLE funnel_consumer")
    await owner.execute("SELECT ensure_journal_partitions(now() + interval '3 months')")

    await owner.execute(f"SET ROLE {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute("SELECT ensure_journal_partitions(now())")


async def test_grants__operators_note_redrives_and_remove_nothing(owner: Connection) -> None:
    await owner.execute("""
        INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id, result_sequence,
                           published_result_sequence) VALUES (0, 1, 't', 'c', 1, 1);
        INSERT INTO dead_letters (lane, result_sequence, recorded_at, source_offset, error_code,
                                  error_detail, record) VALUES (0, 1, now(), 0, 'empty', '', '')
    """)
    await owner.execute("SET ROLE funnel_operator")
    await owner.execute(
        "INSERT INTO redrives (redrive_id, lane, result_sequence, requested_by, again)"
        " VALUES (gen_random_uuid(), 0, 1, 'me', false)"
    )
    for statement in (
        "DELETE FROM redrives",
        "UPDATE redrives SET requested_by = 'you'",
        "DELETE FROM dead_letters",
        "UPDATE dead_letters SET record = ''",
        "UPDATE lanes SET halted = NULL",
        "DELETE FROM journal",
        "SELECT expire_dead_letters(now(), 1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)

    await owner.execute("SET ROLE funnel_consumer")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute("DELETE FROM dead_letters")
    expire = "SELECT expire_dead_letters(now() + interval '1 minute', 1)"
    assert await owner.fetchval(expire) == 0  # it is being redriven
    await owner.execute("RESET ROLE; UPDATE redrives SET ended_at = now()")
    await owner.execute("SET ROLE funnel_consumer")
    assert await owner.fetchval(expire) == 1


async def organizations(connection: Connection, table: str) -> list[uuid.UUID]:
    return [row[0] for row in await connection.fetch(f"SELECT organization_id FROM {table}")]


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await connection.execute(statement)
    finally:
        await connection.close(timeout=5)


async def dump(url: str) -> list[str]:
    """The schema as pg_dump writes it, without the journal's monthly partitions."""
    process = await asyncio.create_subprocess_exec(
        postgres_programs() / "pg_dump", "--schema-only", "--exclude-table=journal_20*", url,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    text, _ = await process.communicate()
    assert process.returncode == 0
    noise = re.compile(r"--|\\(un)?restrict |\s*$")
    return [line for line in text.decode().splitlines() if not noise.match(line)]


async def test_grants__nobody_but_the_eraser_may_change_journal_rows_and_only_what_is_personal(
    owner: Connection,
) -> None:
    """The journal and each partition of it; nobody may remove a row, and nobody is the eraser."""
    rights = await owner.fetch(
        "WITH parts AS (SELECT 'journal'::regclass AS part UNION ALL"
        " SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'journal'::regclass)"
        " SELECT DISTINCT r.rolname, a.attname FROM pg_roles AS r, parts"
        " JOIN pg_attribute AS a ON a.attrelid = part AND a.attnum > 0"
        " WHERE r.rolname LIKE 'funnel_%' AND has_column_privilege(r.oid, part, a.attnum, 'UPDATE')"
    )
    assert {tuple(right) for right in rights} == {
        ("funnel_eraser", column) for column in ("actor", "change", "details", "forward")
    }
    assert not await owner.fetch(
        "SELECT FROM pg_roles AS r, pg_class AS c WHERE r.rolname LIKE 'funnel_%'"
        " AND c.relname LIKE 'journal%' AND c.relkind IN ('r', 'p')"
        " AND (c.relname = 'journal' OR c.relname ~ '^journal_[0-9]')"
        " AND has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE')"
    )
    assert not await owner.fetchval(
        "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'funnel_eraser'"
    )
    for inner in ("blank_journal", "blank_operations", "blank_letters", "erase_step"):
        granted = await owner.fetch(
            "SELECT r.rolname FROM pg_roles AS r, pg_proc AS p WHERE p.proname = $1"
            " AND r.rolname LIKE 'funnel_%' AND r.rolname <> 'funnel_eraser'"
            " AND has_function_privilege(r.oid, p.oid, 'EXECUTE')",
            inner,
        )
        assert [row[0] for row in granted] == ["funnel_consumer"] * (inner == "erase_step")
