"""The table of candidates is what the journal says: versions 1, 2, 3… and the newest one's state;
and what lists search is what the candidates say.

The keys are divided into parts, each gone through in order, range by range; a range is compared
inside PostgreSQL, in one look, and only what differs comes out to be named field by field.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import asyncpg
import orjson

from audit.database import look
from audit.findings import Findings, Meter
from audit.keys import LAST_KEY, Key, last_of_range
from audit.names import tell_names, wrong_names
from audit.sqlfiles import statement
from audit.walks import Step
from domain.merge import same

RANGE_ROWS = 50_000
"""Versions or candidates of one range: long enough that its bounds cost little."""

PARTS = 8
"""Enough that the last of them is not gone through alone for long."""

_BROKEN_VERSIONS_MAX = 10
_KEY_SAMPLE = statement("key_sample")
_KEY_BOUND = statement("key_bound")
_VERSIONS = statement("versions")
_STATES = statement("states")
_CANDIDATE_ROW = statement("candidate_row")
_NEWEST_CHANGE = statement("newest_change")
_BROKEN_VERSIONS = statement("broken_versions")


async def divide_keys(connection: asyncpg.Connection) -> list[tuple[str, str]]:
    """Where each part of all keys begins and ends: about as many candidates in each.

    Text, since the numbers of keys have more digits than JSON's numbers.
    """
    keys = [Key(*row).number for row in await connection.fetch(_KEY_SAMPLE)]
    bounds = sorted({keys[len(keys) * part // PARTS] for part in range(1, PARTS) if keys})
    return [(str(first), str(end)) for first, end in pairwise([0, *bounds, LAST_KEY.number + 1])]


def states_step(meter: Meter, *, show_values: bool) -> Step:
    """Compares the candidates of a part of the keys with their histories, in both directions."""

    async def step(
        connection: asyncpg.Connection, place: Sequence[str], findings: Findings
    ) -> tuple[str, str] | None:
        number, end = map(int, place)
        first, last = Key.of(number), Key.of(end - 1)
        async with look(connection):
            last = min(last, await last_of_range(connection, _KEY_BOUND, first, RANGE_ROWS))
            for key in await _suspects(connection, first, last, findings):
                if findings.full:  # from here on a candidate counts once, whatever is wrong
                    findings.totals["state"] += 1
                    continue
                told = findings.total
                await _tell(connection, key, findings, show_values=show_values)
                if findings.total == told:
                    _tell_unlike(findings, key)
            names_total, names = await wrong_names(connection, first, last)
        findings.rows["names"] += names_total
        for key, found in names.items():
            tell_names(findings, key, found)
        meter.advance(findings.rows["versions"])
        number = last.number + 1
        return (str(number), str(end)) if number < end else None

    return step


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
