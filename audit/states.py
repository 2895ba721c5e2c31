"""The table of candidates is what the journal says: versions 1, 2, 3… and the newest one's state.

Goes through the keys in order, range by range; a range is compared inside PostgreSQL, in one look,
and only what differs comes out to be named field by field.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from audit.bookmark import Side
from audit.database import look
from audit.findings import Findings, Meter
from audit.sqlfiles import statement
from domain.merge import same

RANGE_ROWS = 50_000
"""Versions or candidates of one range: long enough to pay for parallel workers, and a bound."""

_BROKEN_VERSIONS_MAX = 10
_BITS = 128
_LAST = 2 ** (2 * _BITS) - 1
_KEY_BOUND = statement("key_bound")
_VERSIONS = statement("versions")
_STATES = statement("states")
_CANDIDATE_ROW = statement("candidate_row")
_NEWEST_CHANGE = statement("newest_change")
_BROKEN_VERSIONS = statement("broken_versions")


class Key(NamedTuple):
    """A candidate's key; keys are ordered as PostgreSQL orders them."""

    organization_id: UUID
    candidate_id: UUID

    @classmethod
    def of(cls, number: int) -> "Key":
        """The key at a place in the range of all keys."""
        return cls(UUID(int=number >> _BITS), UUID(int=number & (2**_BITS - 1)))

    @property
    def number(self) -> int:
        """The place of the key in the range of all keys."""
        return self.organization_id.int << _BITS | self.candidate_id.int

    def __str__(self) -> str:
        return f"{self.organization_id}/{self.candidate_id}"


async def check_states(
    connection: asyncpg.Connection,
    side: Side,
    meter: Meter,
    *,
    show_values: bool,
) -> None:
    """Compare every candidate with its history, in both directions."""
    findings = side.findings
    number = int(side.place("states") or 0)
    while number <= _LAST:
        first = Key.of(number)
        seen = findings.rows["versions"]
        async with look(connection):
            bound = await connection.fetchrow(_KEY_BOUND, *first, RANGE_ROWS)
            last = Key(*bound) if bound is not None else Key.of(_LAST)
            for key in await _suspects(connection, first, last, findings):
                if findings.full:  # from here on a candidate counts once, whatever is wrong
                    findings.totals["state"] += 1
                    continue
                told = findings.total
                await _tell(connection, key, findings, show_values=show_values)
                if findings.total == told:
                    _tell_unlike(findings, key)
        number = last.number + 1
        meter.advance(findings.rows["versions"] - seen)
        side.reached("states", str(number))  # more digits than JSON's numbers have


async def _suspects(
    connection: asyncpg.Connection, first: Key, last: Key, findings: Findings
) -> Iterable[Key]:
    """The keys from first to last at which table and journal differ."""
    (found,) = await connection.fetch(_VERSIONS, *first, *last)
    findings.rows["versions"] += found["versions_total"]
    findings.rows["candidates"] += found["candidates_total"]
    suspects = dict.fromkeys(Key(*pair) for pair in found["suspects"] or ())
    try:
        async with connection.transaction():
            unlike = await connection.fetch(_STATES, *first, *last)
    except asyncpg.DataError as error:
        findings.add(
            "state",
            f"candidates {first} to {last}",
            expected="states that PostgreSQL can read",
            found=f"SQLSTATE {error.sqlstate}",
        )
        return suspects
    return suspects | dict.fromkeys(Key(*row) for row in unlike)


async def _tell(
    connection: asyncpg.Connection, key: Key, findings: Findings, *, show_values: bool
) -> None:
    """Name what is wrong with one candidate."""
    where = f"candidate {key}"
    for broken in await connection.fetch(_BROKEN_VERSIONS, *key, _BROKEN_VERSIONS_MAX):
        findings.add(
            "versions",
            where,
            expected=f"version {broken['version_before'] + 1} in the journal",
            found=broken["version"],
        )
    newest = await connection.fetchrow(_NEWEST_CHANGE, *key)
    row = await connection.fetchval(_CANDIDATE_ROW, *key)
    if newest is not None and newest["erased"] and row is None:
        findings.add(
            "state", where, expected="an erasure of its newest version", found="none, or another"
        )
        return
    if newest is None or newest["erased"] or row is None:
        expected = f"a row at version {newest['version']}" if newest and row is None else "no row"
        findings.add(
            "state",
            where,
            expected=expected,
            found="no row" if row is None else f"a row at version {orjson.loads(row)['version']}",
        )
        return
    state = orjson.loads(newest["state"] or b"null")
    if not isinstance(state, dict):
        findings.add("journal", where, expected="a change with a state", found="none")
        return
    tell_fields(findings, where, state, orjson.loads(row), show_values=show_values)


def _tell_unlike(findings: Findings, key: Key) -> None:
    """The fields agree, so it is what the newest journal row says of itself."""
    findings.add(
        "journal",
        f"candidate {key}",
        expected="a newest row with the version and the instant of its own state",
        found="another version or recorded_at",
    )


def tell_fields(
    findings: Findings,
    where: str,
    state: dict[str, Any],
    row: dict[str, Any],
    *,
    show_values: bool,
) -> None:
    """Each field that is not in the row as the journal's state has it."""
    for name in dict.fromkeys([*state, *row]):
        if name in state and name in row and same(state[name], row[name]):
            continue
        plain = show_values or name in ("version", "created_at", "updated_at")
        findings.add(
            "state",
            f"{where}, {name}",
            expected=state.get(name, "absent") if plain else "the journal's value",
            found=row.get(name, "absent") if plain else "another value",
        )
