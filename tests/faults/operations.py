"""Bulk operations in fault tests: their commands, and what must hold of each of them afterwards."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from contract.events import COMPLETED, PROGRESSED
from domain.identity import operation_id_of
from producer.outgoing import CommandRecord, OutgoingCommand, command_record
from tests.conftest import PARTITIONS_TOTAL
from tests.faults.world import World

COUNTED = ("applied", "unchanged", "conflict", "not_found", "invalid", "cancelled", "pending")


def bulk(organization_id: str, changes: dict[str, Any], command_id: str, **rest: Any) -> Any:
    """A bulk command and the id of its operation."""
    data = {"organization_id": organization_id, "actor": "tests", "changes": changes, **rest}
    record = _record("candidate.bulk-update.v1", data, command_id)
    return record, operation_id_of(record.identity.key)


def control(organization_id: str, operation_id: str, action: str, command_id: str) -> CommandRecord:
    data = {"organization_id": organization_id, "actor": "tests", "operation_id": operation_id}
    return _record("bulk-operation.control.v1", data | {"action": action}, command_id)


def _record(command_type: str, data: dict[str, Any], command_id: str) -> CommandRecord:
    command = OutgoingCommand(type=command_type, data=data, id=command_id)
    return command_record(command, source="/tests", partitions_total=PARTITIONS_TOTAL)


async def verify_operations(world: World) -> dict[str, dict[str, Any]]:
    """Rows, items, journal, news and change events of every operation agree; its counts by id."""
    rows = await world.fetch("SELECT * FROM bulk_operations")
    items: dict[UUID, list[Any]] = defaultdict(list)
    for item in await world.fetch("SELECT * FROM bulk_operation_items ORDER BY ordinal"):
        items[item["operation_id"]].append(item)
    changed: dict[UUID, list[Any]] = defaultdict(list)
    for row in await world.fetch(
        "SELECT operation_id, candidate_id, version FROM journal WHERE kind = 'item'"
        " ORDER BY lane, journal_sequence"
    ):
        changed[row["operation_id"]].append((row["candidate_id"], row["version"]))
    news = _news(world)
    for row in rows:
        counts = {name: row[name] for name in ("total", *COUNTED)}
        assert sum(row[name] for name in COUNTED) == row["total"]
        _verify_items(items[row["operation_id"]], counts, pending=row["pending"])
        applied = [
            (item["candidate_id"], item["version"])
            for item in items[row["operation_id"]]
            if item["outcome"] == "applied" and not row["dry_run"]
        ]
        assert changed.pop(row["operation_id"], []) == applied
        _verify_news(news.get(str(row["operation_id"]), []), row, counts)
    assert not changed
    return {str(row["operation_id"]): {"status": row["status"], **dict(row)} for row in rows}


def _verify_items(items: Sequence[Any], counts: dict[str, int], *, pending: int) -> None:
    assert [item["ordinal"] for item in items] == list(range(counts["total"] - pending))
    assert len({item["candidate_id"] for item in items}) == len(items)
    told = Counter(item["outcome"] for item in items)
    assert told == Counter({k: v for k, v in counts.items() if v and k not in ("total", "pending")})


def _news(world: World) -> dict[str, list[tuple[str, Any]]]:
    found: dict[str, list[tuple[str, Any]]] = defaultdict(list)
    for records in world.results.records:
        for record in records:
            event_type = dict(record.headers)["ce_type"].decode()
            if event_type in (PROGRESSED, COMPLETED):
                data = orjson.loads(record.value)
                found[data["operation_id"]].append((event_type, data))
    return found


def _verify_news(news: Sequence[tuple[str, Any]], row: Any, counts: dict[str, int]) -> None:
    """Each chunk was told once, in order; the end once, last, with the counts of the row."""
    types = [event_type for event_type, _ in news]
    if not news:  # decided within its batch, or not begun
        return
    pending = [data["counts"]["pending"] for event_type, data in news if event_type == PROGRESSED]
    assert pending == sorted(set(pending), reverse=True)
    for _, data in news:
        assert sum(data["counts"][name] for name in COUNTED) == data["counts"]["total"]
    assert types.count(COMPLETED) == (row["completed_at"] is not None)
    if row["completed_at"] is not None:
        assert types[-1] == COMPLETED
        assert news[-1][1]["counts"] == counts
        assert news[-1][1]["status"] == row["status"]
