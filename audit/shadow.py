"""The shadow of a rebuild: its tables, how they are filled, and how far that has got.

Each range of keys is noted in the transaction that loads it, so a run that was killed leaves none
half done, and the next one goes on with the others; unless the journal's build, its schema or its
beginning are others now. A crash of PostgreSQL empties all of the tables, which are unlogged.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson

from audit.findings import Findings
from audit.keys import LAST_KEY, Key, last_of_range
from audit.sequences import read_lanes
from audit.sqlfiles import statement
from contract.journal import BUILDER

RANGE_ROWS = 50_000
"""Versions or candidates of one range."""

_FOLLOW_ROUNDS_MAX = 10
_FOLLOWED_ROWS = 1000
"""Near enough: what is newer than the shadow is looked at by itself."""

_BEGIN = statement("shadow_begin")
_BOUND = statement("shadow_bound")
_CREATE = statement("shadow_create")
_DROP = statement("shadow_drop")
_ERASED = statement("shadow_erased")
_FOLLOW = statement("shadow_follow")
_FORGET_RUN = statement("shadow_forget_run")
_JOURNAL = statement("shadow_journal")
_KEYED = statement("shadow_keyed")
_KEYS = statement("shadow_keys")
_KEY_BOUND = statement("key_bound")
_LOAD = statement("shadow_load")
_LOADED = statement("shadow_loaded")
_NOTE = statement("shadow_note")
_NOTE_COMPARED = statement("shadow_note_compared")
_RUN = statement("shadow_run")
_ADD_KEY = "ALTER TABLE shadow.candidates ADD PRIMARY KEY (organization_id, candidate_id)"
_ANALYZE = "ANALYZE shadow.candidates"
_CUT_SHORT = (  # by this version, or one that noted as much
    "SELECT count(*) > 0 FROM pg_attribute "
    "WHERE attrelid = to_regclass('shadow.run') AND attname = 'findings'"
)
_WAIT_FOR_LOADERS = "LOCK TABLE shadow.candidates IN SHARE MODE"


class Loaded(NamedTuple):
    """A range of keys in the shadow. `unreadable`: SQLSTATEs of candidates whose state is none."""

    first: Key
    last: Key
    candidates: int
    unreadable: dict[Key, str]


@dataclass(slots=True)
class Compared:
    """How far the comparison is: the keys below `number`; what it found, and how many it repaired.

    Each range counts once: a run that was cut short had told nobody.
    """

    number: int = 0
    repaired: int = 0
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True, slots=True)
class Shadow:
    """Where a run begins.

    Attributes:
        marks: of each lane, the result up to which what is loaded knows everything.
        loaded: by a run that was cut short, in the order of keys.
        compared: by the same.
    """

    marks: dict[int, int]
    loaded: tuple[Loaded, ...]
    compared: Compared


async def open_shadow(connection: asyncpg.Connection, *, restart: bool) -> Shadow:
    """The tables, empty, or as a run that was cut short has left them."""
    journal = f"build {BUILDER}, {await connection.fetchval(_JOURNAL)}"
    async with connection.transaction():
        if not restart and await connection.fetchval(_CUT_SHORT):
            await connection.execute(_WAIT_FOR_LOADERS)  # of a process that is no more
            run = await connection.fetchrow(_RUN, journal)
            if run is not None:
                return _shadow(run, await connection.fetch(_LOADED))
        await connection.execute(_DROP)
        await connection.execute(_CREATE)
        await connection.execute(_BEGIN, journal)
        (run,) = await connection.fetch(_RUN, journal)
    return _shadow(run, [])


async def close_shadow(connection: asyncpg.Connection, *, keep: bool) -> None:
    """The run is through; with `keep` the rebuilt state stays."""
    await connection.execute(_FORGET_RUN if keep else _DROP)


async def ranges_to_load(
    connection: asyncpg.Connection, loaded: Iterable[Loaded]
) -> AsyncIterator[tuple[Key, Key]]:
    """All keys but those that are loaded, range by range."""
    ahead = deque(loaded)
    number = 0
    while number <= LAST_KEY.number:
        if ahead and ahead[0].first.number == number:
            number = ahead.popleft().last.number + 1
            continue
        first = Key.of(number)
        last = await last_of_range(connection, _KEY_BOUND, first, RANGE_ROWS)
        if ahead:
            last = Key.of(min(last.number, ahead[0].first.number - 1))
        yield first, last
        number = last.number + 1


async def ranges_to_compare(
    connection: asyncpg.Connection, compared: Compared
) -> AsyncIterator[tuple[Key, Key]]:
    """All keys of the shadow and of the state but those that are compared, range by range.

    Each counts as compared, and is noted with what was found, once the next one is asked for.
    """
    while compared.number <= LAST_KEY.number:
        first = Key.of(compared.number)
        last = await last_of_range(connection, _BOUND, first, RANGE_ROWS)
        yield first, last
        compared.number = last.number + 1
        told = orjson.dumps(compared.findings.told())
        await connection.execute(_NOTE_COMPARED, str(compared.number), compared.repaired, told)


async def load_range(connection: asyncpg.Connection, first: Key, last: Key) -> Loaded:
    """Load a range that is not there yet, and note it."""
    async with connection.transaction():
        unreadable: dict[Key, str] = {}
        try:
            candidates = await _load(connection, first, last)
        except asyncpg.DataError:  # some state in it is none: each candidate by itself, to name it
            candidates = 0
            for row in await connection.fetch(_KEYS, *first, *last):
                key = Key(*row)
                try:
                    candidates += await _load(connection, key, key)
                except asyncpg.DataError as error:
                    unreadable[key] = str(error.sqlstate)
        told = [[*map(str, key), sqlstate] for key, sqlstate in unreadable.items()]
        await connection.execute(_NOTE, *first, *last, candidates, orjson.dumps(told))
    return Loaded(first, last, candidates, unreadable)


async def follow(connection: asyncpg.Connection, marks: dict[int, int]) -> None:
    """Bring what is loaded level with the lanes, as they go on, as near as is worth it."""
    if not await connection.fetchval(_KEYED):
        await connection.execute(_ADD_KEY)
        await connection.execute(_ANALYZE)
    seen = dict(marks)
    for _ in range(_FOLLOW_ROUNDS_MAX):
        behind = 0
        for lane in await read_lanes(connection):
            first = seen.get(lane.lane, 0)
            behind += lane.result_sequence - first
            for result in range(first, lane.result_sequence, RANGE_ROWS):
                last = min(result + RANGE_ROWS, lane.result_sequence)
                await connection.execute(_FOLLOW, lane.lane, result, last)
            seen[lane.lane] = lane.result_sequence
        if behind < _FOLLOWED_ROWS:
            break
    await connection.execute(_ERASED)


async def _load(connection: asyncpg.Connection, first: Key, last: Key) -> int:
    async with connection.transaction():
        command_tag = await connection.execute(_LOAD, *first, *last)
    return int(command_tag.rpartition(" ")[2])


def _shadow(run: asyncpg.Record, loaded: Iterable[asyncpg.Record]) -> Shadow:
    compared = Compared()
    if run["compared"] is not None:
        findings = Findings.of(orjson.loads(run["findings"]))
        compared = Compared(int(run["compared"]), run["repaired"], findings)
    marks = dict(zip(run["lanes"], run["results"], strict=True))
    return Shadow(marks, tuple(map(_loaded, loaded)), compared)


def _loaded(row: asyncpg.Record) -> Loaded:
    *bounds, candidates, unreadable = row
    told = {
        Key(UUID(organization), UUID(candidate)): sqlstate
        for organization, candidate, sqlstate in orjson.loads(unreadable)
    }
    return Loaded(Key(*bounds[:2]), Key(*bounds[2:]), candidates, told)
