"""Each lane's journal: numbered without hole or repeat, in order of time, up to its lane's row.

Reads a lane in the order in which it was written, piece by piece; the end of a lane and its row
are read in one look, so a lane that goes on meanwhile agrees with itself.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from audit.bookmark import Side
from audit.database import look
from audit.findings import Check, Findings, Meter
from audit.sqlfiles import statement
from contract.journal import BUILDER

PIECE_ROWS = 50_000
"""One sort of some 5 MB in PostgreSQL; larger pieces are no faster."""

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_JOURNAL_BEGINS = statement("journal_begins")
_LANE = statement("lane")
_LANES = statement("lanes")
_SEQUENCES = statement("sequences")
_STRAY_ROWS = statement("stray_rows")

_SEQUENCE_NAMES = ("journal", "result", "change")
# What must hold for a row by itself, and how it is told when it does not.
_CONTRADICTIONS: dict[str, tuple[Check, str]] = {
    "shape_right": ("journal", "a change exactly where the outcome is one"),
    "version_right": ("versions", "previous_version one below version"),
    "identity_right": ("journal", "an identity exactly where a command was settled"),
    "settled_right": ("journal", "a digest and an outcome where a command was settled"),
    "builder_right": ("journal", "a builder that this version knows"),
    "told_right": ("journal", "a change that names what its row names"),
}


class Lane(NamedTuple):
    """A lane as its row says it stands."""

    lane: int
    journal_sequence: int
    result_sequence: int
    change_sequence: int
    published_result_sequence: int
    next_offset: int
    last_recorded_at: datetime


class _Place(NamedTuple):
    """The last journal row seen of a lane."""

    result: int = 0
    journal: int = 0
    recorded_at: datetime = _BEGINNING
    change: int = 0
    inside_unit: bool = False

    @classmethod
    def of(cls, told: list[Any]) -> "_Place":
        """As it was remembered: its instant may be text."""
        place = cls(*told)
        if isinstance(place.recorded_at, str):
            return place._replace(recorded_at=datetime.fromisoformat(place.recorded_at))
        return place


async def read_lanes(connection: asyncpg.Connection) -> list[Lane]:
    """Every lane, as it stands now."""
    return [Lane(*row) for row in await connection.fetch(_LANES)]


async def check_sequences(
    connection: asyncpg.Connection, lanes: list[Lane], side: Side, meter: Meter
) -> None:
    """Follow the journal of every lane to its end, from where its oldest months were dropped."""
    findings = side.findings
    number, told = side.place("sequences") or (0, None)
    if (number, told) == (0, None):
        for row in await connection.fetch(_STRAY_ROWS):
            findings.add(
                "sequences",
                f"lane {row['lane']}",
                expected="no such lane",
                found=f"{row['rows_total']} journal rows",
            )
    while number < len(lanes):
        if told is None:
            begins = await connection.fetchrow(_JOURNAL_BEGINS, lanes[number].lane)
            place = _Place(*begins or ())
        else:
            place = _Place.of(told)
        seen = findings.rows["journal rows"]
        place, more = await _check_piece(connection, lanes[number].lane, place, findings)
        meter.advance(findings.rows["journal rows"] - seen)
        number, told = (number, list(place)) if more else (number + 1, None)
        side.reached("sequences", (number, told))


async def _check_piece(
    connection: asyncpg.Connection, lane: int, place: _Place, findings: Findings
) -> tuple[_Place, bool]:
    """The next piece: where it ends, and whether the lane goes on behind it."""
    async with look(connection):
        rows = await connection.fetch(
            _SEQUENCES, lane, place.result, place.journal, place.recorded_at, place.recorded_at,
            place.change, PIECE_ROWS, place.inside_unit, BUILDER,
        )  # fmt: skip
        for row in rows:
            _tell_row(findings, lane, row)
        rows_total = rows[0]["rows_total"] if rows else 0
        findings.rows["journal rows"] += rows_total
        if rows:
            last = rows[-1]
            changes = [row["change_sequence"] for row in rows if row["change_sequence"] is not None]
            place = _Place(
                last["result_sequence"], last["journal_sequence"], last["recorded_at"],
                changes[-1] if changes else place.change, last["kind"] == "item",
            )  # fmt: skip
        if rows_total == PIECE_ROWS:
            return place, True
        for row in await connection.fetch(_LANE, lane):
            _tell_end(findings, Lane(*row), place)
        return place, False


def _tell_row(findings: Findings, lane: int, row: asyncpg.Record) -> None:
    where = f"lane {lane}, journal row {row['journal_sequence']}"
    for name in _SEQUENCE_NAMES:
        if not row[f"{name}_right"]:
            findings.add(
                "sequences",
                where,
                expected=f"{name}_sequence {row[f'{name}_expected']}",
                found=row[f"{name}_sequence"],
            )
    if not row["recorded_right"]:
        findings.add(
            "sequences",
            where,
            expected=f"recorded_at not before {row['recorded_before']}",
            found=row["recorded_at"],
        )
    for name, (check, expected) in _CONTRADICTIONS.items():
        if not row[name]:
            findings.add(check, where, expected=expected, found="otherwise")


def _tell_end(findings: Findings, lane: Lane, place: _Place) -> None:
    where = f"lane {lane.lane}, its row"
    for name in _SEQUENCE_NAMES:
        expected, found = getattr(place, name), getattr(lane, f"{name}_sequence")
        if expected != found:
            findings.add(
                "sequences",
                where,
                expected=f"{name}_sequence {expected}, the journal's last",
                found=found,
            )
    if place.inside_unit:
        findings.add(
            "sequences",
            where,
            expected=f"a row that closes unit {place.result}",
            found="a change of a bulk operation as the last row",
        )
    if place.journal and place.recorded_at != lane.last_recorded_at:
        findings.add(
            "sequences",
            where,
            expected=f"last_recorded_at {place.recorded_at}",
            found=lane.last_recorded_at,
        )
