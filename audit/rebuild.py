"""`funnel rebuild`: the state made anew from the journal, beside the real one, and compared.

Consumers go on meanwhile. The shadow table is loaded range by range, follows the lanes until it is
level with a moment after the load, and is compared range by range; a candidate that differs is
looked at once more, newest change and row in one look, so that only what really differs is told.
What lists search is compared with the candidates, too. A run that is cut short, even killed, leaves
what it has loaded, compared and found, and the next one goes on with that. A state that is not what
the journal says can be repaired; see `audit.repair`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import orjson

from audit.database import AuditRefused, look, open_audit
from audit.findings import Findings, Meter, Report
from audit.keys import Key
from audit.names import tell_names, wrong_names
from audit.shadow import (
    Compared,
    Loaded,
    close_shadow,
    follow,
    load_range,
    open_shadow,
    ranges_to_compare,
    ranges_to_load,
)
from audit.sqlfiles import statement
from audit.states import tell_fields
from audit.walks import together

WORKERS = 2
"""Ranges loaded at once: PostgreSQL works on each with one core."""

_LOCK = "gulf-funnel.shadow"
_CANDIDATES_TOTAL = (
    "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'candidates'::regclass"
)
_DIFFERENCES = statement("shadow_differences")
UNLIKE_JOURNAL = statement("unlike_journal")

Repair = Callable[[Sequence[Key]], Awaitable[int]]
"""Makes the rows of candidates what the journal says; tells how many it changed."""


class RebuildRuns(Exception):
    """Another rebuild uses the shadow table at this moment."""


@dataclass(slots=True)
class Rebuilt:
    """What came of it.

    Attributes:
        candidates: in the shadow table.
        resumed: those of them that a run which was cut short had loaded.
        unreadable: candidates whose newest state in the journal is none; they are left alone.
    """

    findings: Findings = field(default_factory=Findings)
    candidates: int = 0
    resumed: int = 0
    repaired: int = 0
    unreadable: set[Key] = field(default_factory=set)

    def take(self, loaded: Loaded) -> None:
        """A range is in the shadow."""
        self.candidates += loaded.candidates
        for key, sqlstate in loaded.unreadable.items():
            self.unreadable.add(key)
            self.findings.add(
                "journal",
                f"candidate {key}",
                expected="a newest state that PostgreSQL can read",
                found=f"SQLSTATE {sqlstate}",
            )


async def rebuild(
    database_url: str,
    *,
    report: Report,
    repair: Repair | None = None,
    keep: bool = False,
    restart: bool = False,
    show_values: bool = False,
) -> Rebuilt:
    """Rebuild the state, compare it, and repair what differs if `repair` is given.

    Args:
        keep: leave the table shadow.candidates there.
        restart: from nothing, also where an earlier run was cut short.
        show_values: name the values of candidates' fields, which are personal data.

    Raises:
        RebuildRuns: see there.
        AuditRefused, OSError, asyncpg.PostgresConnectionError: see `audit.database`.
    """
    rebuilt = Rebuilt()
    async with _alone(database_url) as connection:
        shadow = await open_shadow(connection, restart=restart)
        for loaded in shadow.loaded:
            rebuilt.take(loaded)
        rebuilt.resumed = rebuilt.candidates
        meter = Meter(2 * await connection.fetchval(_CANDIDATES_TOTAL), report)
        meter.advance(rebuilt.resumed + shadow.compared.findings.rows["candidates"])
        await _load(database_url, connection, shadow.loaded, rebuilt, meter)
        await follow(connection, shadow.marks)
        await _compare(
            connection, shadow.compared, rebuilt.unreadable, meter, repair,
            show_values=show_values,
        )  # fmt: skip
        rebuilt.repaired = shadow.compared.repaired
        rebuilt.findings.merge(shadow.compared.findings)
        await close_shadow(connection, keep=keep)
    return rebuilt


@asynccontextmanager
async def _alone(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    async with open_audit(database_url, name="funnel rebuild", walking=True) as connection:
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", _LOCK):
                raise RebuildRuns("Another rebuild runs.")
            yield connection
        except asyncpg.InvalidSchemaNameError as error:
            raise AuditRefused("There is no schema shadow: run `funnel migrate up`.") from error


async def _load(
    database_url: str,
    connection: asyncpg.Connection,
    before: Sequence[Loaded],
    rebuilt: Rebuilt,
    meter: Meter,
) -> None:
    """Every range of keys that was not loaded before, several at a time."""
    ranges = ranges_to_load(connection, before)

    async def work() -> None:
        async with open_audit(database_url, name="funnel rebuild", walking=True) as own:
            while True:
                async with turn:
                    bounds = await anext(ranges, None)
                if bounds is None:
                    return
                loaded = await load_range(own, *bounds)
                rebuilt.take(loaded)
                meter.advance(loaded.candidates)

    turn = asyncio.Lock()
    await together(work() for _ in range(WORKERS))


async def _compare(
    connection: asyncpg.Connection,
    compared: Compared,
    unreadable: set[Key],
    meter: Meter,
    repair: Repair | None,
    *,
    show_values: bool,
) -> None:
    findings = compared.findings
    async for first, last in ranges_to_compare(connection, compared):
        async with look(connection):
            (found,) = await connection.fetch(_DIFFERENCES, *first, *last)
            _total, names = await wrong_names(connection, first, last)
        candidates_total = found["candidates_total"]
        findings.rows["candidates"] += candidates_total
        suspects = {Key(*pair) for pair in found["suspects"] or ()}
        really: list[Key] = []
        if keys := sorted(suspects - unreadable):
            really = await _tell(connection, keys, findings, show_values=show_values)
        for key in sorted(names.keys() - suspects - unreadable):
            tell_names(findings, key, names[key])
            really.append(key)
        if repair is not None and really:
            compared.repaired += await repair(really)
        meter.advance(candidates_total)


async def _tell(
    connection: asyncpg.Connection, keys: Sequence[Key], findings: Findings, *, show_values: bool
) -> list[Key]:
    """Those of the candidates that differ from the journal, each told."""
    organizations, candidates = zip(*keys, strict=True)
    rows = await connection.fetch(UNLIKE_JOURNAL, organizations, candidates)
    for row in rows:
        where = f"candidate {row['organization_id']}/{row['candidate_id']}"
        if row["state"] is None or row["found"] is None:
            findings.add(
                "state",
                where,
                expected="no row" if row["state"] is None else f"a row at version {row['version']}",
                found="no row" if row["found"] is None else "a row",
            )
        else:
            tell_fields(
                findings, where, orjson.loads(row["state"]), orjson.loads(row["found"]),
                show_values=show_values,
            )  # fmt: skip
    return [Key(row["organization_id"], row["candidate_id"]) for row in rows]
