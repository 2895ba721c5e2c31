"""The journal row: what was settled, in the shape that every event is built from.

A row and the builder's version determine both of its events to the byte, so that republishing
after a crash, an audit or a replay gives the same records.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple

import orjson

BUILDER = 1
"""The version of `contract.events` that new rows are built with."""

Kind = Literal[
    "command", "reroute", "dead_letter", "item", "progress", "completed", "erased", "repair"
]
"""`item`: one candidate changed by a bulk operation; `progress` and `completed`: news of one;
`erased`: the deferred part of an erasure is done; `repair`: a candidate's row was made again what
the journal says."""


class JournalRow(NamedTuple):
    """One row of the table `journal`, in the order of its columns.

    Rows with one `result_sequence` are a unit, which its last row closes. `details` is a JSON
    object with what only some results carry; `change` is the data of the change event as
    published, None beside a `change_sequence` where it is a tombstone or was erased; `forward` is
    a packed source record (reroutes, unless erased; for dead letters it is kept in `dead_letters`).
    """

    recorded_at: datetime
    lane: int
    journal_sequence: int
    result_sequence: int
    change_sequence: int | None
    kind: Kind
    source_offset: int
    identity: str | None
    digest: bytes | None
    organization_id: str | None
    candidate_id: str | None
    command_id: str | None
    command_source: str | None
    command_type: str | None
    actor: str | None
    outcome: str | None
    reason: str | None
    version: int | None
    previous_version: int | None
    details: bytes | None
    change: bytes | None
    forward: bytes | None
    traceparent: str | None
    tracestate: str | None
    builder: int = BUILDER
    operation_id: str | None = None


COLUMNS = JournalRow._fields


def journal_row(values: Iterable[Any]) -> JournalRow:
    """A row as PostgreSQL gave it, its columns in our order, UUIDs as objects of any kind."""
    row = JournalRow._make(values)
    return row._replace(
        identity=None if row.identity is None else str(row.identity),
        organization_id=None if row.organization_id is None else str(row.organization_id),
        candidate_id=None if row.candidate_id is None else str(row.candidate_id),
        operation_id=None if row.operation_id is None else str(row.operation_id),
    )


def whole_units(rows: list[JournalRow], rows_max: int) -> list[JournalRow]:
    """A page of a lane's journal without the unit that its end may have cut in two.

    A unit is all rows with one `result_sequence`; its last row makes the record on results.

    Args:
        rows: in order, as many as there are or `rows_max`; no unit has as many rows as that.
    """
    if len(rows) < rows_max:
        return rows
    last = rows[-1].result_sequence
    end = len(rows)
    while end and rows[end - 1].result_sequence == last:
        end -= 1
    return rows[:end]


def timestamp_text(instant: datetime) -> str:
    """RFC 3339 in UTC with `Z` and six digits of a second; `instant` is aware and in UTC."""
    if not instant.microsecond:  # orjson leaves zeros out
        return instant.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
    return orjson.dumps(instant, option=orjson.OPT_UTC_Z)[1:-1].decode()  # five times as quick
