"""A range of the journal: some lanes, from a result to a result, of whom it concerns.

Within a lane, time and numbers rise together, so an instant becomes a number by a few index probes
and a range is read in the order in which it was written, page by page, however long it is.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from audit.sequences import Lane, read_lanes
from audit.sqlfiles import statement
from contract.journal import JournalRow, journal_row
from domain.identity import home_lane

PAGE_ROWS = 2000
"""Some 5 MB; a page of dead letters may hold 4 MiB each: a guess."""

_BEGINNING = datetime(1, 1, 1, tzinfo=UTC)
_INSTANT_BEHIND = statement("instant_behind")
_RANGE_BEGINS = statement("range_begins")
_RANGE_ROWS = statement("range_rows")


class RangeRefused(Exception):
    """The range contradicts itself, or names a lane that does not exist."""


class RangeDropped(RangeRefused):
    """The range, or its beginning, lies in months that the journal has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """What is asked for; None: whatever it is.

    Attributes:
        lane: with it, `first` and `last` are numbers of its results.
        since, until: settled at or after, settled before.
        candidate_id: with `organization_id`.
    """

    lane: int | None = None
    first: int | None = None
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    organization_id: UUID | None = None
    candidate_id: UUID | None = None
    operation_id: UUID | None = None

    def __post_init__(self) -> None:
        if self.lane is None and (self.first is not None or self.last is not None):
            raise RangeRefused("Sequences are those of one lane: name it.")
        if self.organization_id is None and self.candidate_id is not None:
            raise RangeRefused("A candidate is one of an organization: name it.")

    def told(self) -> dict[str, Any]:
        """What was asked for, as JSON."""
        asked = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: value if isinstance(value, int) else str(value)
            for name, value in asked.items()
            if value is not None
        }


class Span(NamedTuple):
    """The part of a range that lies in one lane: results `first` to `last`, none if it is less."""

    lane: int
    first: int
    last: int
    since: datetime = _BEGINNING


async def spans_of(connection: asyncpg.Connection, asked: Range) -> list[Span]:
    """Where a range lies now; what is settled later is not part of it.

    A range that names no beginning begins where the journal does.

    Raises:
        RangeRefused: there is no such lane.
        RangeDropped: see there.
    """
    lanes = await read_lanes(connection)
    chosen = [lane for lane in lanes if lane.lane == _lane_of(asked, len(lanes), lane.lane)]
    if asked.lane is not None and not chosen and lanes:
        raise RangeRefused(f"There is no lane {asked.lane} of that organization.")
    return [await _span(connection, asked, lane) for lane in chosen]


async def pages(
    connection: asyncpg.Connection,
    asked: Range,
    span: Span,
    *,
    after: tuple[int, int] | None = None,
) -> AsyncIterator[list[JournalRow]]:
    """The rows of a span in the order of the journal.

    Args:
        after: result and journal sequence of a row: what is behind it.
    """
    result, journal = after or (span.first - 1, 2**62)
    while True:
        rows = [
            journal_row(row)
            for row in await connection.fetch(
                _RANGE_ROWS, span.lane, result, journal, span.last, span.since, PAGE_ROWS,
                asked.organization_id, asked.candidate_id, asked.operation_id,
            )
        ]  # fmt: skip
        if rows:
            yield rows
        if len(rows) < PAGE_ROWS:
            return
        result, journal = rows[-1].result_sequence, rows[-1].journal_sequence


def _lane_of(asked: Range, lanes_total: int, lane: int) -> int | None:
    """The lane itself if the range may lie in it. Rows of an organization are in its home lane,
    but for records that came to another one and were sent on: those are no history of it."""
    if asked.lane is not None and asked.lane != lane:
        return None
    organization_id = asked.organization_id
    if organization_id is not None and home_lane(str(organization_id), lanes_total) != lane:
        return None
    return lane


async def _span(connection: asyncpg.Connection, asked: Range, lane: Lane) -> Span:
    first, last = asked.first or 1, lane.result_sequence
    cut = await connection.fetchrow(_RANGE_BEGINS, lane.lane)
    if cut is not None:
        _demand_kept(asked, lane.lane, cut)
        first = max(first, cut["result_sequence"] + 1)
    if asked.last is not None:
        last = min(last, asked.last)
    if asked.since is not None:
        first = max(first, await _first_since(connection, lane, asked.since))
    if asked.until is not None:
        last = min(last, await _first_since(connection, lane, asked.until) - 1)
    return Span(lane.lane, first, last, asked.since or _BEGINNING)


def _demand_kept(asked: Range, lane: int, cut: asyncpg.Record) -> None:
    """Whatever is named of the range lies behind what was dropped."""
    numbers = [each for each in (asked.first, asked.last) if each is not None]
    if (
        any(each <= cut["result_sequence"] for each in numbers)
        or (asked.since is not None and asked.since <= cut["last_recorded_at"])
        or (asked.until is not None and asked.until <= cut["cut_at"])
    ):
        raise RangeDropped(
            f"Results 1 to {cut['result_sequence']} of lane {lane} were dropped with the months "
            f"before {cut['cut_at']:%Y-%m-%d}: only their archives have them. "
            f"Ask from result {cut['result_sequence'] + 1}, or from that day."
        )


async def _first_since(connection: asyncpg.Connection, lane: Lane, instant: datetime) -> int:
    """The first result settled at or after an instant; behind the last if there is none."""
    low, high = 1, lane.result_sequence + 1
    while low < high:
        middle = (low + high) // 2
        settled_at = await connection.fetchval(_INSTANT_BEHIND, lane.lane, middle)
        if settled_at is None or settled_at >= instant:
            high = middle
        else:
            low = middle + 1
    return low
