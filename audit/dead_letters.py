"""Dead letters as a queue: oldest first, filtered, page by page, each with what became of it.

Reads as the operators' role. What a record holds is shown by `audit.letter_text`, never here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from audit.operators import Operators
from audit.sqlfiles import statement
from contract.dead_letters import DeadLetterId, was_erased
from contract.record import SourceRecord, unpack

PAGE_LETTERS_MAX = 201
"""A page of the API, and one more that tells of the next; of 300 bytes each."""

_PAGE = statement("dead_letters_page")
_LETTER = statement("dead_letter")
_REDRIVES = statement("redrives_of")


class UnknownLetter(Exception):
    """There is no such dead letter: its id is wrong, or retention has removed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which letters; None: whatever they are. `until` is exclusive."""

    codes: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    organization_id: str | None = None
    lane: int | None = None
    redriven: bool | None = None
    ids: tuple[DeadLetterId, ...] | None = None


class Place(NamedTuple):
    """Where a letter stands in the queue."""

    recorded_at: datetime
    lane: int
    result_sequence: int


class Letter(NamedTuple):
    """One dead letter as a list shows it; the last five tell of its newest redrive."""

    id: DeadLetterId
    recorded_at: datetime
    source_offset: int
    error_code: str
    error_detail: str
    organization_id: str | None
    redrive_of: str | None
    record_bytes: int
    redrives_total: int
    redriven_at: datetime | None
    redriven_by: str | None
    outcome: str | None
    reason: str | None

    @property
    def place(self) -> Place:
        """Its cursor."""
        return Place(self.recorded_at, *self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeLetter:
    """One dead letter with its record, the command as the journal knows it, and all redrives.

    `record` is None where an erasure has removed it.
    """

    id: DeadLetterId
    recorded_at: datetime
    source_offset: int
    error_code: str
    error_detail: str
    organization_id: str | None
    candidate_id: str | None
    command_id: str | None
    command_source: str | None
    command_type: str | None
    redrive_of: str | None
    record: SourceRecord | None
    redrives: tuple[dict[str, Any], ...]


async def read_page(
    operators: Operators, wanted: Filter, *, after: Place | None, letters_max: int
) -> list[Letter]:
    """The next letters of the queue behind `after`."""
    rows = await operators.fetch(
        _PAGE,
        None if wanted.codes is None else list(wanted.codes),
        wanted.since,
        wanted.until,
        wanted.organization_id,
        wanted.lane,
        wanted.redriven,
        *(after or (None, None, None)),
        min(letters_max, PAGE_LETTERS_MAX),
        None if wanted.ids is None else [each.lane for each in wanted.ids],
        None if wanted.ids is None else [each.result_sequence for each in wanted.ids],
    )
    return [_letter(row) for row in rows]


async def read_letter(operators: Operators, letter_id: DeadLetterId) -> WholeLetter:
    """Raises UnknownLetter."""
    row = await operators.fetchrow(_LETTER, *letter_id)
    if row is None:
        raise UnknownLetter(f"There is no dead letter {letter_id}.")
    redrives = await operators.fetch(_REDRIVES, *letter_id)
    record = unpack(row["record"]) if row["record"] else None
    told = {name: _text(value) for name, value in row.items() if name in _TOLD}
    return WholeLetter(
        id=letter_id,
        recorded_at=row["recorded_at"],
        source_offset=row["source_offset"],
        record=None if record is None or was_erased(record) else record,
        redrives=tuple(dict(each) for each in redrives),
        **told,
    )


_TOLD = (
    "error_code", "error_detail", "organization_id", "candidate_id", "command_id",
    "command_source", "command_type", "redrive_of",
)  # fmt: skip


def _letter(row: asyncpg.Record) -> Letter:
    lane, sequence, recorded_at, offset, code, detail, organization_id, *rest = row.values()
    redrive_of, record_bytes, redrives_total, *redriven = rest
    return Letter(
        DeadLetterId(lane, sequence),
        recorded_at,
        offset,
        code,
        detail,
        _text(organization_id),
        redrive_of,
        record_bytes,
        redrives_total or 0,
        *redriven,
    )


def _text(value: Any) -> Any:
    return None if value is None else str(value)
