"""What lists search is compared with the candidates: changed, missing and stray rows are found."""

import pytest

from tests.audit.conftest import Connection, Verify
from tests.audit.history import ORGANIZATIONS, candidate_of

CANDIDATE = candidate_of(0, 0)
OF_CANDIDATE = f"candidate_id = '{CANDIDATE}'"
TAMPERING = {
    "created_at": "created_at + interval '1 microsecond'",
    "first_name": "first_name || 'x'",
    "last_name": "upper(last_name)",
    "email": "'a@example.org'",
}


async def test_names__of_a_real_history_are_clean(
    clone: Connection, verify_clone: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.states.RANGE_ROWS", 7)
    findings = await verify_clone()
    assert findings.listed == []
    assert findings.rows["names"] == await clone.fetchval("SELECT count(*) FROM candidates")
    columns = await clone.fetch(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = 'candidate_names'::regclass AND attnum > 0"
    )
    assert {row["attname"] for row in columns} == {"organization_id", "candidate_id", *TAMPERING}


@pytest.mark.parametrize("column", TAMPERING)
async def test_names__column_changed(clone: Connection, verify_clone: Verify, column: str) -> None:
    await clone.execute(
        f"UPDATE candidate_names SET {column} = {TAMPERING[column]} WHERE {OF_CANDIDATE}"
    )
    (found,) = (await verify_clone()).listed
    assert (found.check, found.where, found.found) == (
        "state", f"names of candidate {ORGANIZATIONS[0]}/{CANDIDATE}", f"another {column}",
    )  # fmt: skip


@pytest.mark.parametrize("column", ["organization_id", "candidate_id"])
async def test_names__key_changed_is_a_row_missing_and_a_stray_one(
    clone: Connection, verify_clone: Verify, column: str
) -> None:
    await clone.execute("SET session_replication_role = replica")  # past the foreign key
    await clone.execute(
        f"UPDATE candidate_names SET {column} = gen_random_uuid() WHERE {OF_CANDIDATE}"
    )
    found = [each.found for each in (await verify_clone()).listed]
    assert sorted(found) == ["a row without a candidate", "no row"]


async def test_names__missing_ones_are_counted(clone: Connection, verify_clone: Verify) -> None:
    await clone.execute("DELETE FROM candidate_names")
    findings = await verify_clone()
    assert {each.found for each in findings.listed} == {"no row"}
    assert findings.total == await clone.fetchval("SELECT count(*) FROM candidates")
