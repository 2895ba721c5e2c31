"""`funnel explain`: all that became of one command, from the record received to its events.

A command may have arrived more than once (repeats, reroutes): each arrival is one entry, in the
order in which they were settled. Values of candidates are not told, only which fields changed.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from audit.event_places import Event, find_offsets
from audit.outputs import Output
from audit.sqlfiles import statement
from contract.events import event_id
from domain.identity import identity_range

CHANGES_LISTED_MAX = 100
"""Of an inline bulk operation; the rest is counted."""

_ARRIVALS = statement("arrivals")
_UNIT_CHANGES = statement("unit_changes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One arrival of a command.

    Attributes:
        told: everything there is to tell, in the order in which it is told.
        events: what it published, its result or notice first.
    """

    told: dict[str, Any]
    events: list[Event]


async def explain(
    connection: asyncpg.Connection,
    output: Output,
    *,
    organization_id: UUID,
    command_id: str,
    command_source: str | None = None,
) -> list[Explained]:
    """Every arrival of a command, without the offsets of its events.

    Args:
        command_source: only of the command with this `ce_source`.
    """
    lowest, highest = identity_range(str(organization_id), command_id)
    rows = await connection.fetch(
        _ARRIVALS,
        UUID(lowest),
        UUID(highest),
        organization_id,
        command_id,
    )
    return [
        await _explained(connection, output, row)
        for row in rows
        if command_source is None or row["command_source"] == command_source
    ]


async def with_offsets(output: Output, explained: list[Explained]) -> list[Explained]:
    """The same, each event with its offset in Kafka, None where it is not there (any more).

    Raises:
        OutputAway, KafkaError: Kafka does not answer.
    """
    events = [event for each in explained for event in each.events]
    found = await find_offsets(output.kafka, events)
    return [
        Explained(
            told=each.told,
            events=[
                event._replace(offset=found.get((event.topic, event.partition, event.sequence)))
                for event in each.events
            ],
        )
        for each in explained
    ]


async def _explained(
    connection: asyncpg.Connection, output: Output, row: asyncpg.Record
) -> Explained:
    changes = await connection.fetch(
        _UNIT_CHANGES, row["lane"], row["result_sequence"], CHANGES_LISTED_MAX
    )
    details = orjson.loads(row["details"] or b"{}")
    told: dict[str, Any] = {
        "received": {
            "topic": output.topics.commands,
            "partition": row["lane"],
            "offset": row["source_offset"],
        },
        "kind": row["kind"],
        "command_type": row["command_type"],
        "command_source": row["command_source"],
        "actor": row["actor"],
        "candidate_id": row["candidate_id"],
        "operation_id": row["operation_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "version_seen": _version_seen(row, details),
        "version": row["version"] if row["outcome"] in ("applied", "merged") else None,
        "changed": _changed_fields(row),
        "changes_total": changes[0]["changes_total"] if changes else None,
        "details": details or None,
        "traceparent": row["traceparent"],
        "settled_at": row["recorded_at"],
    }
    sequences = [(output.topics.results, row["result_sequence"])]
    if row["change_sequence"] is not None:
        sequences.append((output.topics.changes, row["change_sequence"]))
    sequences += [(output.topics.changes, each["change_sequence"]) for each in changes]
    events = [
        Event(
            topic, row["lane"], sequence, event_id(topic, row["lane"], sequence),
            int(row["recorded_at"].timestamp() * 1000),
        )
        for topic, sequence in sequences
    ]  # fmt: skip
    return Explained(
        told={name: value for name, value in told.items() if value is not None}, events=events
    )


def _version_seen(row: asyncpg.Record, details: dict[str, Any]) -> int | None:
    """At which version the candidate was when the command was decided."""
    seen: int | None = row["previous_version"]
    return seen if seen is not None else details.get("current_version")


def _changed_fields(row: asyncpg.Record) -> list[str] | None:
    if row["change"] is None:
        return None
    return list(orjson.loads(row["change"]).get("changed", {}))
