"""The journal rows of bulk operations: each changed candidate, and the news that closes a unit."""

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from consumer.operation_store import Operator
from contract.journal import JournalRow, Kind, timestamp_text
from contract.lanes import LaneRow
from domain.outcomes import OperationStatus
from domain.verdicts import BulkItem, Counts


class Place(NamedTuple):
    """Where the next row of a lane goes, and from which record it comes."""

    lane: LaneRow
    journal_sequence: int
    result_sequence: int
    change_sequence: int
    source_offset: int


def item_rows(place: Place, operator: Operator, items: Iterable[BulkItem]) -> list[JournalRow]:
    """A row for each candidate that was changed, numbered from `place` on."""
    lane, journal_sequence, result_sequence, change_sequence, source_offset = place
    recorded_at, number = lane.recorded_at, lane.lane
    organization_id, operation_id, command_id, source, actor, parent, state, command_type = operator
    now = timestamp_text(recorded_at)
    rows: list[JournalRow] = []
    for candidate_id, _, verdict in items:
        change = verdict.change
        if change is None:
            continue
        data = orjson.dumps(
            {
                "organization_id": organization_id,
                "candidate_id": candidate_id,
                "version": verdict.version,
                "previous_version": change.previous_version,
                "changed": change.changed,
                "state": change.state,
                "actor": actor,
                "command_id": command_id,
                "command_source": source,
                "operation_id": operation_id,
                "sequence": change_sequence,
                "recorded_at": now,
            }
        )
        rows.append(
            JournalRow(
                recorded_at, number, journal_sequence, result_sequence, change_sequence, "item",
                source_offset, None, None, organization_id, candidate_id, command_id, source,
                command_type, actor, None, None, verdict.version, change.previous_version, None,
                data, None, parent, state, operation_id=operation_id,
            )
        )  # fmt: skip
        journal_sequence += 1
        change_sequence += 1
    return rows


def news_row(
    place: Place, operator: Operator, kind: Kind, status: OperationStatus, counts: Counts
) -> JournalRow:
    """What `progress` or `completed` tells of an operation."""
    details = orjson.dumps({"status": status, "counts": counts._asdict()})
    return JournalRow(
        place.lane.recorded_at, place.lane.lane, place.journal_sequence, place.result_sequence,
        None, kind, place.source_offset, None, None, operator.organization_id, None,
        operator.command_id, operator.command_source, operator.type, operator.actor, None, None,
        None, None, details, None, None, operator.traceparent, operator.tracestate,
        operation_id=operator.operation_id,
    )  # fmt: skip
