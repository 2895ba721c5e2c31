"""Bulk operations: looked at by operators, and checked against their items and the journal.

Every item of an operation is accounted for: settled once, or still to be done, and each one that
was applied has its row in the journal.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from audit.database import look
from audit.findings import Findings
from audit.keys import Key
from audit.sqlfiles import statement
from domain.outcomes import ITEM_OUTCOMES

RANGE_ITEMS = 50_000
"""Items of the operations that are compared in one look, but for the last of them."""

COUNTED = (*ITEM_OUTCOMES, "pending")
_OPERATIONS = statement("operations")
_OPERATION = statement("operation")
_ITEMS = statement("operation_items")
_BOUND = statement("operation_bound")
_RANGE = statement("operations_of_range")


async def list_operations(
    connection: asyncpg.Connection,
    *,
    organization_id: UUID | None = None,
    status: str | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """The newest operations, of one organization or of all."""
    rows = await connection.fetch(_OPERATIONS, organization_id, status, limit)
    return [_told(row) for row in rows]


async def read_operation(
    connection: asyncpg.Connection, *, organization_id: UUID, operation_id: UUID
) -> dict[str, Any] | None:
    """One operation, of a dry run with its differences, or None."""
    row = await connection.fetchrow(_OPERATION, organization_id, operation_id)
    return None if row is None else _told(row)


async def read_items(
    connection: asyncpg.Connection,
    *,
    organization_id: UUID,
    operation_id: UUID,
    outcomes: Sequence[str],
    limit: int,
) -> list[dict[str, Any]]:
    """The first items that ended so."""
    rows = await connection.fetch(_ITEMS, organization_id, operation_id, list(outcomes), limit)
    return [
        {
            "ordinal": row["ordinal"],
            "candidate_id": str(row["candidate_id"]),
            "outcome": row["outcome"],
            "version": row["version"],
            **(orjson.loads(row["details"]) if row["details"] else {}),
        }
        for row in rows
    ]


async def operations_step(
    connection: asyncpg.Connection, place: str | None, findings: Findings
) -> str | None:
    """Compares every operation with its items, its chunks and the journal."""
    first = Key.of(int(place or 0))
    async with look(connection):
        bound = await connection.fetchrow(_BOUND, *first, RANGE_ITEMS)
        if bound is None:
            return None
        last = Key(*bound)
        for row in await connection.fetch(_RANGE, *first, *last):
            findings.rows["operations"] += 1
            _check(findings, row)
    return str(last.number + 1)


def _check(findings: Findings, row: asyncpg.Record) -> None:
    where = f"operation {row['organization_id']}/{row['operation_id']}"

    def demand(what: str, expected: object, found: object) -> None:
        if expected != found:
            findings.add("operations", f"{where}, {what}", expected=str(expected), found=str(found))

    settled = sum(row["told"])
    demand("the sum of its counts", row["total"], settled + row["pending"])
    for outcome, told, items in zip(ITEM_OUTCOMES, row["told"], row["items"], strict=True):
        demand(f"items {outcome}", told, items)
    demand("distinct candidates", settled, row["distinct_total"])
    demand("items in chunks to be done", row["pending"], int(row["pending_total"]))
    total = row["total"]
    demand("the sum of ordinals", total * (total - 1) // 2, int(row["ordinals_sum"]))
    demand("items that contradict themselves", 0, row["odd_total"])
    demand("items at versions that never were", 0, row["unknown_total"])
    demand("changes in the journal", row["changes_told"], row["changes_total"])


def _told(row: asyncpg.Record) -> dict[str, Any]:
    told = dict(row)
    counts = {name: told.pop(name) for name in ("total", *COUNTED)}
    for name in ("changes", "filter", "differences"):
        if told.get(name) is not None:
            told[name] = orjson.loads(told[name])
    plain = {name: str(value) if isinstance(value, UUID) else value for name, value in told.items()}
    return {name: value for name, value in plain.items() if value is not None} | {"counts": counts}
