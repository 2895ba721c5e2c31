"""Every column of candidates, of the counts of operations and of their items, one by one: whatever
is changed in it is found. For sealed journal rows see `test_chain`, for names `test_names`."""

import pytest

from tests.audit.conftest import Connection, Verify
from tests.audit.history import candidate_of

CANDIDATES = {
    "organization_id": "gen_random_uuid()",
    "candidate_id": "gen_random_uuid()",
    "first_name": "first_name || 'x'",
    "last_name": "last_name || 'x'",
    "email": "'a@example.org'",
    "phone": "'+4930901820'",
    "status": "'hired'",
    "pipeline_stage": "coalesce(pipeline_stage || '.', '') || 'x'",
    "rating": "5 - coalesce(rating, 0)",
    "source": "coalesce(source, '') || 'x'",
    "tags": "tags || '{y}'",
    "attributes": """attributes || '{"y": 1}'""",
    "version": "version + 1",
    "created_at": "created_at - interval '1 microsecond'",
    "updated_at": "updated_at + interval '1 microsecond'",
}
COUNTS = (
    "total", "applied", "unchanged", "conflict", "not_found", "invalid", "cancelled", "pending",
)  # fmt: skip
ITEMS = {
    "organization_id": "gen_random_uuid()",
    "operation_id": "gen_random_uuid()",
    "ordinal": "ordinal + 1000",
    "candidate_id": "gen_random_uuid()",
    "outcome": "CASE outcome WHEN 'invalid' THEN 'conflict' ELSE 'invalid' END",
    "version": "coalesce(version, 0) + 1",
    "details": """CASE WHEN details IS NULL THEN '{"reason": "erased"}' END::json""",
}


async def columns(connection: Connection, table: str) -> set[str]:
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
        table,
    )
    return {row["attname"] for row in rows}


async def unguarded(connection: Connection, table: str) -> None:
    """As who owns the table can: without its constraints."""
    await connection.execute("SET session_replication_role = replica")
    for row in await connection.fetch(
        "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'c'",
        table,
    ):
        await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}")


async def test_tampering__names_every_column(clone: Connection) -> None:
    assert await columns(clone, "candidates") == set(CANDIDATES)
    assert await columns(clone, "bulk_operation_items") == set(ITEMS)
    integers = await clone.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'bulk_operations'::regclass "
        "AND atttypid = 'integer'::regtype AND attnum > 0"
    )
    assert {row["attname"] for row in integers} == {*COUNTS, "lane", "next_ordinal"}


@pytest.mark.parametrize("column", CANDIDATES)
async def test_tampering__of_a_candidate(
    clone: Connection, verify_clone: Verify, column: str
) -> None:
    await unguarded(clone, "candidates")
    changed = await clone.execute(
        f"UPDATE candidates SET {column} = {CANDIDATES[column]} "
        f"WHERE candidate_id = '{candidate_of(0, 0)}'"
    )
    assert changed == "UPDATE 1"
    findings = await verify_clone()
    assert "state" in {each.check for each in findings.listed}


@pytest.mark.parametrize("column", COUNTS)
async def test_tampering__of_a_count(clone: Connection, verify_clone: Verify, column: str) -> None:
    await unguarded(clone, "bulk_operations")
    await clone.execute(f"UPDATE bulk_operations SET {column} = {column} + 1")
    findings = await verify_clone()
    assert {each.check for each in findings.listed} == {"operations"}
    operations = await clone.fetchval("SELECT count(*) FROM bulk_operations")
    assert len({each.where.partition(",")[0] for each in findings.listed}) == operations


@pytest.mark.parametrize(
    ("column", "outcome"),
    [
        (column, outcome)
        for column in ITEMS
        for outcome in ("applied", "conflict", "not_found")
        # That nothing was found under another id is as good an item.
        if (column, outcome) != ("candidate_id", "not_found")
    ],
)
async def test_tampering__of_an_item(
    clone: Connection, verify_clone: Verify, column: str, outcome: str
) -> None:
    changed = await clone.execute(
        f"UPDATE bulk_operation_items AS i SET {column} = {ITEMS[column]} "
        "WHERE (operation_id, ordinal) = (SELECT operation_id, ordinal FROM bulk_operation_items "
        "WHERE outcome = $1 ORDER BY operation_id, ordinal LIMIT 1)",
        outcome,
    )
    assert changed == "UPDATE 1"
    findings = await verify_clone()
    assert {each.check for each in findings.listed} == {"operations"}
