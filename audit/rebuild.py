"""`funnel rebuild`: the state made anew from the journal, beside the real one, and compared.

Consumers go on meanwhile. The shadow table is loaded range by range, follows the lanes until it is
level with a moment after the load, and is compared range by range; a candidate that differs is
looked at once more, newest change and row in one look, so that only what really differs is told.
A state that is not what the journal says can be repaired; see `audit.repair`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import orjson

from audit.database import AuditRefused, look, open_audit
from audit.findings import Findings, Meter, Report
from audit.sequences import read_lanes
from audit.sqlfiles import statement
from audit.states import Key, tell_fields

WORKERS = 2
"""Ranges loaded at once: PostgreSQL works on each with one core."""
RANGE_ROWS = 50_000
"""Versions or candidates of one range."""

_FOLLOW_ROUNDS_MAX = 10
_FOLLOWED_ROWS = 1000
"""Near enough: what is newer than the shadow is looked at by itself."""
_LAST = Key.of(2**256 - 1)
_LOCK = "gulf-funnel.shadow"

_KEY_BOUND = statement("key_bound")
_CREATE = statement("shadow_create")
_LOAD = statement("shadow_load")
_KEYS = statement("shadow_keys")
_FOLLOW = statement("shadow_follow")
_BOUND = statement("shadow_bound")
_DIFFERENCES = statement("shadow_differences")
UNLIKE_JOURNAL = statement("unlike_journal")
_DROP = "DROP TABLE IF EXISTS shadow.candidates"
_KEYED = "ALTER TABLE shadow.candidates ADD PRIMARY KEY (organization_id, candidate_id)"
_ANALYZE = "ANALYZE shadow.candidates"

Repair = Callable[[Sequence[Key]], Awaitable[int]]
"""Makes the rows of candidates what the journal says; tells how many it changed."""


class RebuildRuns(Exception):
    """Another rebuild uses the shadow table at this moment."""


@dataclass(slots=True)
class Rebuilt:
    """What came of it.

    Attributes:
        candidates: in the shadow table.
        unreadable: candidates whose newest state in the journal is none; they are left alone.
    """

    findings: Findings = field(default_factory=Findings)
    candidates: int = 0
    repaired: int = 0
    unreadable: set[Key] = field(default_factory=set)


async def rebuild(
    database_url: str,
    *,
    report: Report,
    repair: Repair | None = None,
    keep: bool = False,
    show_values: bool = False,
) -> Rebuilt:
    """Rebuild the state, compare it, and repair what differs if `repair` is given.

    Args:
        keep: leave the table shadow.candidates there.
        show_values: name the values of candidates' fields, which are personal data.

    Raises:
        RebuildRuns: see there.
        AuditRefused, OSError, asyncpg.PostgresConnectionError: see `audit.database`.
    """
    rebuilt = Rebuilt()
    async with _alone(database_url) as connection:
        lanes = await read_lanes(connection)
        await connection.execute(_DROP)
        await connection.execute(_CREATE)
        try:
            candidates = await connection.fetchval(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class "
                "WHERE oid = 'candidates'::regclass"
            )
            meter = Meter(2 * candidates, report)
            await _load(database_url, connection, rebuilt, meter)
            await connection.execute(_KEYED)
            await connection.execute(_ANALYZE)
            await _follow(connection, {lane.lane: lane.result_sequence for lane in lanes})
            await _compare(connection, rebuilt, meter, repair, show_values=show_values)
        finally:
            if not keep:
                await connection.execute(_DROP)
    return rebuilt


@asynccontextmanager
async def _alone(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    async with open_audit(database_url, name="funnel rebuild") as connection:
        try:
            if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtext($1))", _LOCK):
                raise RebuildRuns("Another rebuild runs.")
            yield connection
        except asyncpg.InvalidSchemaNameError as error:
            raise AuditRefused("There is no schema shadow: run `funnel migrate up`.") from error


async def _load(
    database_url: str, connection: asyncpg.Connection, rebuilt: Rebuilt, meter: Meter
) -> None:
    """Every range of keys once, several at a time."""
    ranges = _ranges(connection, _KEY_BOUND)

    async def work() -> None:
        async with open_audit(database_url, name="funnel rebuild") as own:
            while True:
                async with turn:
                    bounds = await anext(ranges, None)
                if bounds is None:
                    return
                loaded = await _load_range(own, *bounds, rebuilt)
                rebuilt.candidates += loaded
                meter.advance(loaded)

    turn = asyncio.Lock()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _ranges(
    connection: asyncpg.Connection, bound_statement: str
) -> AsyncIterator[tuple[Key, Key]]:
    number = 0
    while number <= _LAST.number:
        first = Key.of(number)
        bound = await connection.fetchrow(bound_statement, *first, RANGE_ROWS)
        last = Key(*bound) if bound is not None else _LAST
        yield first, last
        number = last.number + 1


async def _load_range(
    connection: asyncpg.Connection, first: Key, last: Key, rebuilt: Rebuilt
) -> int:
    try:
        return _count(await connection.execute(_LOAD, *first, *last))
    except asyncpg.DataError:
        pass  # some state in it is none: each candidate by itself, to name it
    loaded = 0
    for row in await connection.fetch(_KEYS, *first, *last):
        key = Key(*row)
        try:
            loaded += _count(await connection.execute(_LOAD, *key, *key))
        except asyncpg.DataError as error:
            rebuilt.unreadable.add(key)
            rebuilt.findings.add(
                "journal",
                f"candidate {key}",
                expected="a newest state that PostgreSQL can read",
                found=f"SQLSTATE {error.sqlstate}",
            )
    return loaded


async def _follow(connection: asyncpg.Connection, marks: dict[int, int]) -> None:
    """Bring the shadow level with the lanes, as they go on, as near as is worth it."""
    for _ in range(_FOLLOW_ROUNDS_MAX):
        behind = 0
        for lane in await read_lanes(connection):
            seen = marks.get(lane.lane, 0)
            if lane.result_sequence > seen:
                await connection.execute(_FOLLOW, lane.lane, seen, lane.result_sequence)
                behind += lane.result_sequence - seen
                marks[lane.lane] = lane.result_sequence
        if behind < _FOLLOWED_ROWS:
            return


async def _compare(
    connection: asyncpg.Connection,
    rebuilt: Rebuilt,
    meter: Meter,
    repair: Repair | None,
    *,
    show_values: bool,
) -> None:
    findings = rebuilt.findings
    async for first, last in _ranges(connection, _BOUND):
        async with look(connection):
            (found,) = await connection.fetch(_DIFFERENCES, *first, *last)
        candidates_total = found["candidates_total"]
        findings.rows["candidates"] += candidates_total
        suspects = {Key(*pair) for pair in found["suspects"] or ()}
        keys = sorted(suspects - rebuilt.unreadable)
        if keys:
            really = await _tell(connection, keys, findings, show_values=show_values)
            if repair is not None and really:
                rebuilt.repaired += await repair(really)
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


def _count(command_tag: str) -> int:
    return int(command_tag.rpartition(" ")[2])
