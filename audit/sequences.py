"""Each lane's journal: numbered without hole or repeat, in order of time, up to its lane's row.

Reads a lane in the order in which it was written, piece by piece; only a piece in which something
is wrong is gone through row by row. The end of a lane and its row are read in one look, so a lane
that goes on meanwhile agrees with itself.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from audit.database import look
from audit.findings import Check, Findings, Meter
from audit.sqlfiles import statement
from audit.walks import Step
from contract.journal import BUILDER

PIECE_ROWS = 50_000
"""Larger pieces are no faster. One in which something is wrong is a sort of some 5 MB."""

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_JOURNAL_BEGINS = statement("journal_begins")
_LANE = statement("lane")
_LANES = statement("lanes")
_PIECE = statement("journal_piece") + statement("journal_piece_whole")
_BROKEN = statement("journal_piece") + statement("journal_piece_broken")
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


async def strays_step(connection: asyncpg.Connection, _place: None, findings: Findings) -> None:
    """Looks for journal rows of lanes that do not exist."""
    for row in await connection.fetch(_STRAY_ROWS):
        findings.add(
            "sequences",
            f"lane {row['lane']}",
            expected="no such lane",
            found=f"{row['rows_total']} journal rows",
        )


def lane_step(lane: int, meter: Meter) -> Step:
    """Follows the journal of a lane to its end, from where its oldest months were dropped."""

    async def step(
        connection: asyncpg.Connection, told: list[Any] | None, findings: Findings
    ) -> list[Any] | None:
        if told is None:
            place = _Place(*await connection.fetchrow(_JOURNAL_BEGINS, lane) or ())
        else:
            place = _Place.of(told)
        place, more = await _check_piece(connection, lane, place, findings)
        meter.advance(findings.rows["journal rows"])
        return list(place) if more else None

    return step


async def _check_piece(
    connection: asyncpg.Connection, lane: int, place: _Place, findings: Findings
) -> tuple[_Place, bool]:
    """The next piece: where it ends, and whether the lane goes on behind it."""
    piece = (
        lane, place.result, place.journal, place.recorded_at, place.recorded_at, place.change,
        PIECE_ROWS, place.inside_unit, BUILDER,
    )  # fmt: skip
    async with look(connection):
        (found,) = await connection.fetch(_PIECE, *piece)
        rows_total = found["rows_total"]
        findings.rows["journal rows"] += rows_total
        if found["whole"]:
            place = _Place(
                found["result_sequence"], found["journal_sequence"], found["recorded_at"],
                found["change_sequence"], found["inside_unit"],
            )  # fmt: skip
        elif rows_total:
            rows = await connection.fetch(_BROKEN, *piece)
            for row in rows:
                _tell_row(findings, lane, row)
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
