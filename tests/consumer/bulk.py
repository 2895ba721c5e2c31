"""Bulk commands as their senders write them, and what must hold of every operation."""

from collections import Counter
from typing import Any
from uuid import uuid4

import orjson

from tests.consumer.conftest import Bed, Command, Json, Key, create, new_key

COUNTED = ("applied", "unchanged", "conflict", "not_found", "invalid", "cancelled", "pending")
PROGRESSED, COMPLETED = "bulk-operation.progressed.v1", "bulk-operation.completed.v1"


def bulk(organization_id: str, changes: Json, *, id: str | None = None, **rest: Any) -> Command:  # noqa: A002
    data = {"organization_id": organization_id, "actor": "user:1", "changes": changes, **rest}
    return Command(id or str(uuid4()), "candidate.bulk-update.v1", data)


def control(organization_id: str, operation_id: str, action: str) -> Command:
    data = {"organization_id": organization_id, "actor": "user:1", "action": action}
    return Command(str(uuid4()), "bulk-operation.control.v1", data | {"operation_id": operation_id})


def counts(total: int, **settled: int) -> Json:
    given = dict.fromkeys(COUNTED, 0) | settled
    return {"total": total, **given, "pending": total - sum(settled.values())}


async def people(bed: Bed, total: int, *, lane: int | None = None, **person: Any) -> list[Key]:
    """New candidates of a new organization."""
    organization_id, _ = new_key(lane)
    keys = [(organization_id, str(uuid4())) for _ in range(total)]
    results = await bed.settle(*(create(key, **person) for key in keys))
    assert {result["outcome"] for result in results} == {"applied"}
    return keys


def news_of(bed: Bed, operation_id: str) -> list[Any]:
    types = (PROGRESSED, COMPLETED)
    return [
        event
        for event in bed.results
        if event.type in types and event.data["operation_id"] == operation_id
    ]


async def ended(bed: Bed, operation_id: str) -> Json:
    """The data of its `completed`, waited for; then all that we hold of it agrees."""
    await bed.until(lambda: any(e.type == COMPLETED for e in news_of(bed, operation_id)))
    *progress, completed = news_of(bed, operation_id)
    assert completed.type == COMPLETED
    assert {event.type for event in progress} <= {PROGRESSED}
    pending = [event.data["counts"]["pending"] for event in progress]
    assert pending == sorted(pending, reverse=True)
    await assert_agrees(bed, operation_id, completed.data["counts"])
    return dict(completed.data)


async def assert_agrees(bed: Bed, operation_id: str, told: Json) -> None:
    """The operation's row, its items, the journal and the change events."""
    row = await bed.database.fetchrow(
        "SELECT * FROM bulk_operations WHERE operation_id = $1", operation_id
    )
    assert row is not None
    assert {name: row[name] for name in ("total", *COUNTED)} == told
    assert sum(told[name] for name in COUNTED) == told["total"]
    items = await bed.database.fetch(
        "SELECT * FROM bulk_operation_items WHERE operation_id = $1 ORDER BY ordinal", operation_id
    )
    assert [item["ordinal"] for item in items] == list(range(told["total"]))
    assert Counter(item["outcome"] for item in items) == Counter(
        {name: told[name] for name in COUNTED if told[name]}
    )
    left = await bed.database.fetchval(
        "SELECT count(*) FROM bulk_operation_chunks WHERE operation_id = $1", operation_id
    )
    assert left == 0
    changed = {
        (str(item["candidate_id"]), item["version"])
        for item in items
        if item["outcome"] == "applied" and not row["dry_run"]
    }
    journal = await bed.database.fetch(
        "SELECT candidate_id, version, change FROM journal"
        " WHERE operation_id = $1 AND change_sequence IS NOT NULL",
        operation_id,
    )
    assert {(str(each["candidate_id"]), each["version"]) for each in journal} == changed
    for data in (orjson.loads(each["change"]) for each in journal):
        assert data["operation_id"] == operation_id
        assert data["state"]["updated_at"] == data["recorded_at"]
    await bed.until(
        lambda: (
            {
                (event.data["candidate_id"], event.data["version"])
                for event in bed.changes
                if event.data.get("operation_id") == operation_id
            }
            == changed
        )
    )
