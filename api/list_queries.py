"""The page of a list, as PostgreSQL gives it: bounded whatever the filter, one round trip.

A place in an order is the order's own value and the candidate's id: it stays where it is whatever
else is written, so that a walk meets what does not change exactly once.
"""

from datetime import datetime
from typing import NamedTuple

import asyncpg
import orjson

from api.database import Database, statement
from api.filters import Listing
from api.limits import SET_ROWS_MAX, WALK_ATTRIBUTES_MAX, WALK_ROWS_MAX
from contract.state import candidate_state
from domain.candidate import CandidateState

_LIST = statement("list_candidates")

Place = tuple[str, str]
"""`(the order's value, candidate_id)`, JSON-ready."""


class Page(NamedTuple):
    """Some candidates, and the place to go on from; None at the end."""

    items: list[CandidateState]
    next_place: Place | None


async def read_page(
    database: Database, organization_id: str, listing: Listing, after: Place | None
) -> Page:
    """The page after a place, or the first.

    It may be shorter than asked for, even empty, and yet have a next one: it looks at no more
    candidates than `limits` says.
    """
    by_text = listing.sort.endswith("last_name")
    value, candidate_id = after or (None, None)
    rows = await database.fetch(
        _LIST,
        organization_id,
        orjson.dumps(listing.filter).decode(),
        listing.sort,
        None if value is None or by_text else datetime.fromisoformat(value),
        value if by_text else None,
        candidate_id,
        listing.limit + 1,
        SET_ROWS_MAX,
        WALK_ATTRIBUTES_MAX if "attributes" in listing.filter else WALK_ROWS_MAX,
    )
    return _page(rows, listing.limit)


def _page(rows: list[asyncpg.Record], limit: int) -> Page:
    found = [row for row in rows if row["candidate_id"] is not None]
    items = [candidate_state(dict(row)) for row in found[:limit]]
    if len(found) > limit:
        return Page(items, _place(found[limit - 1]))
    return Page(items, _place(rows[-1]) if len(rows) > len(found) else None)


def _place(row: asyncpg.Record) -> Place:
    value = row["place_text"] if row["place_time"] is None else row["place_time"].isoformat()
    return value, row["place_id"]
