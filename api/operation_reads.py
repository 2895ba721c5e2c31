"""What the API asks PostgreSQL about bulk operations, and an operation as a document.

`counts` add up in every document: they come from one row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg
import orjson

from api.database import Database, statement
from contract.journal import timestamp_text

_OPERATIONS = statement("operations")
_OPERATIONS_PAGE = statement("operations_page")
_ITEMS_PAGE = statement("operation_items_page")

COUNTS = (
    "total",
    "applied",
    "unchanged",
    "conflict",
    "not_found",
    "invalid",
    "cancelled",
    "pending",
)
_JSON = ("changes", "filter", "differences")
_OPTIONAL = ("parent_id", "filter", "differences", "error")

OperationKey = tuple[str, str]
"""`(organization_id, operation_id)`, both canonical."""

Operation = dict[str, Any]


class NewestFirst(NamedTuple):
    """A place among an organization's operations; a page goes on after it."""

    created_at: datetime
    operation_id: str


async def read_operations(
    database: Database, keys: Sequence[OperationKey]
) -> dict[OperationKey, Operation]:
    """Those of `keys` that are there."""
    rows = await database.fetch(
        _OPERATIONS,
        [organization_id for organization_id, _ in keys],
        [operation_id for _, operation_id in keys],
    )
    return {(row["organization_id"], row["operation_id"]): operation(dict(row)) for row in rows}


async def list_operations(
    database: Database,
    organization_id: str,
    *,
    status: str | None,
    after: NewestFirst | None,
    limit: int,
) -> tuple[list[Operation], NewestFirst | None]:
    """A page, without the differences of dry runs, and where the next one begins."""
    rows = await database.fetch(
        _OPERATIONS_PAGE,
        organization_id,
        status,
        after and after.created_at,
        after and after.operation_id,
        limit + 1,
    )
    last = rows[limit - 1] if len(rows) > limit else None
    place = None if last is None else NewestFirst(last["created_at"], last["operation_id"])
    return [operation(dict(row)) for row in rows[:limit]], place


async def list_items(
    database: Database,
    key: OperationKey,
    *,
    outcome: str | None,
    after: int,
    limit: int,
) -> tuple[list[dict[str, Any]], int | None]:
    """Items in the operation's order after an ordinal, and the last one's if there are more."""
    rows = await database.fetch(_ITEMS_PAGE, *key, outcome, after, limit + 1)
    more = rows[limit - 1]["ordinal"] if len(rows) > limit else None
    return [_item(row) for row in rows[:limit]], more


def operation(row: Mapping[str, Any]) -> Operation:
    """A row as the document that clients see."""
    document: Operation = {name: row[name] for name in row if name not in COUNTS}
    for name in _JSON:
        if document[name] is not None:
            document[name] = orjson.loads(document[name])
    for name in _OPTIONAL:
        if document[name] is None:
            del document[name]
    document["counts"] = {name: row[name] for name in COUNTS}
    document |= _progress(row)
    for name in ("created_at", "updated_at", "completed_at"):
        document[name] = None if row[name] is None else timestamp_text(row[name])
    return document


def _progress(row: Mapping[str, Any]) -> dict[str, Any]:
    """Percentage, items a second since the beginning, and the seconds left at that rate."""
    decided = row["total"] - row["pending"]
    seconds = ((row["completed_at"] or row["updated_at"]) - row["created_at"]).total_seconds()
    rate = decided / seconds if seconds > 0 else None
    going_on = row["status"] == "running" and row["pending"] > 0
    return {
        "percentage": round(100 * decided / row["total"], 1) if row["total"] else 100.0,
        "items_per_second": None if rate is None else round(rate, 1),
        "seconds_left": round(row["pending"] / rate, 1) if rate and going_on else None,
    }


def _item(row: asyncpg.Record) -> dict[str, Any]:
    item = {name: row[name] for name in ("ordinal", "candidate_id", "outcome")}
    if row["version"] is not None:
        item["version"] = row["version"]
    if row["details"] is not None:
        item |= orjson.loads(row["details"])
    return item
