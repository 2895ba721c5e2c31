"""Sealing: what a lane has written since its newest link becomes links, range by range.

Off the hot path: it reads what is committed, by its own role, and locks nothing that a lane waits
for: an erasure that finds it at work does something else first.
In a consumer it takes a small share of one core while commands come, in pieces that none of them
waits for long, and so may fall behind; it catches up when lanes are quiet.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import NamedTuple

import asyncpg
import structlog

from audit.chain import append_link, chain_head, range_digests
from audit.database import AuditRefused, open_audit
from audit.sequences import Lane, read_lanes
from audit.sqlfiles import statement
from contract.lanes import Hook
from domain.limits import (
    ERASE_BUSY_SECONDS,
    SEAL_BUSY_ROWS,
    SEAL_LIVE_ROWS,
    SEAL_LOOK_SECONDS,
    SEAL_RANGE_BYTES,
    SEAL_RANGE_ROWS,
    SEAL_RANGE_ROWS_BESIDE,
    SEAL_SHARE_BESIDE,
    SEAL_SHARE_BUSY,
    SEAL_SHARE_QUIET,
    SEAL_TRIES_MAX,
)

ROLE = "funnel_sealer"
TRANSACTION_SECONDS_MAX = 60
"""One range on a cold disk: a guess with a wide margin."""
_TRY_AGAIN_SECONDS = 0.05
_ADD_SALTS = statement("add_salts")
_ERASURES_OPEN = statement("erasures_open")
_NEXT_RANGE = statement("next_range")
_ONE_SEALER = "SELECT pg_try_advisory_lock(hashtext('gulf-funnel.sealer'))"
_SEAL_LOCKS = statement("seal_locks")

Report = Callable[[int, int], None]
"""Called with how many results are sealed, and of how many."""

log = structlog.get_logger("audit")


class Sealed(NamedTuple):
    """What sealing one range did: `rows_total` is 0 where nothing was left."""

    rows_total: int
    last_result: int


class Pace(NamedTuple):
    """How many rows a range has at most, and the share of one core that sealing may take."""

    rows_max: int
    share: float


QUIET = Pace(SEAL_RANGE_ROWS, SEAL_SHARE_QUIET)
BESIDE = Pace(SEAL_RANGE_ROWS_BESIDE, SEAL_SHARE_BESIDE)
BUSY = Pace(SEAL_RANGE_ROWS_BESIDE, SEAL_SHARE_BUSY)


def pace_beside(rows_per_second: float) -> Pace:
    """The pace beside lanes that settle so much."""
    if rows_per_second < SEAL_LIVE_ROWS:
        return QUIET
    return BESIDE if rows_per_second < SEAL_BUSY_ROWS else BUSY


def _no_hook(_: str) -> None:
    return


async def seal_range(
    connection: asyncpg.Connection,
    lane: int,
    *,
    rows_max: int = SEAL_RANGE_ROWS,
    hook: Hook = _no_hook,
) -> Sealed:
    """Seal the next range of a lane, unless others are at it for long."""
    for _ in range(SEAL_TRIES_MAX):
        sealed = await _seal_range(connection, lane, rows_max, hook)
        if sealed is not None:
            if sealed.rows_total:
                hook("after_seal")
            return sealed
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
    return Sealed(0, 0)


async def _seal_range(
    connection: asyncpg.Connection, lane: int, rows_max: int, hook: Hook
) -> Sealed | None:
    """In one transaction; None if another sealer, or an erasure, is at the lane."""
    async with connection.transaction():
        if not await connection.fetchval(_SEAL_LOCKS, lane):
            return None
        head = await chain_head(connection, lane)
        first = (head.last_result if head else 0) + 1
        last = await connection.fetchval(_NEXT_RANGE, lane, first - 1, rows_max, SEAL_RANGE_BYTES)
        if last is None:
            return Sealed(0, first - 1)
        await connection.execute(_ADD_SALTS, lane, first, last)
        hook("after_seal_salts")
        found = (await range_digests(connection, lane, [(first, last)]))[last]
        if found.last_recorded_at is None:  # the rows went between two statements
            return Sealed(0, first - 1)
        await append_link(
            connection,
            lane,
            head,
            kind="rows",
            first_result=first,
            last_result=last,
            rows_total=found.rows_total,
            last_recorded_at=found.last_recorded_at,
            digest=found.digest,
        )
        hook("after_seal_link")
        return Sealed(found.rows_total, last)


async def seal(database_url: str, *, report: Report) -> int:
    """Seal all that is settled now; tells how many rows that were.

    Raises:
        AuditRefused: the role, a grant or a table is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    rows_total = 0
    async with _open(database_url, "funnel journal seal") as connection:
        lanes = await read_lanes(connection)
        total, before = sum(lane.result_sequence for lane in lanes), 0
        for lane in lanes:
            async for sealed in _ranges(connection, lane, lambda: SEAL_RANGE_ROWS, _no_hook):
                rows_total += sealed.rows_total
                report(before + min(sealed.last_result, lane.result_sequence), total)
            before += lane.result_sequence
            report(before, total)
    return rows_total


async def keep_sealing(database_url: str, *, every: timedelta, hook: Hook = _no_hook) -> None:
    """Seal every so often, until cancelled; one process does it, the others stand by.

    What PostgreSQL does not do now is left for the next time. Without the role it ends: who may
    not seal here has `funnel journal seal` run elsewhere.
    """
    while True:
        try:
            async with _open(database_url, "funnel sealer") as connection:
                while True:
                    if await connection.fetchval(_ONE_SEALER):
                        await _seal_gently(connection, hook)
                    await asyncio.sleep(every.total_seconds())
        except AuditRefused as refused:
            log.warning("the journal is not sealed here", action="no_sealer", cause=str(refused))
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.info("sealing put off", action="sealing_put_off", error=type(error).__name__)
            await asyncio.sleep(every.total_seconds())


def _open(database_url: str, name: str) -> AbstractAsyncContextManager[asyncpg.Connection]:
    return open_audit(
        database_url,
        name=name,
        role=ROLE,
        walking=True,
        transaction_seconds_max=TRANSACTION_SECONDS_MAX,
    )


async def _seal_gently(connection: asyncpg.Connection, hook: Hook) -> None:
    """All lanes, with a rest after each range that is long while commands come."""
    pace = await _rest(connection, SEAL_LOOK_SECONDS)

    def rows_max() -> int:
        return pace.rows_max

    for lane in await read_lanes(connection):
        started = time.monotonic()
        async for _ in _ranges(connection, lane, rows_max, hook):
            worked = time.monotonic() - started
            pace = await _rest(connection, worked / pace.share - worked)
            started = time.monotonic()


async def _rest(connection: asyncpg.Connection, seconds: float) -> Pace:
    """Tells the pace to go on with, by what lanes settled meanwhile."""
    started, settled = time.monotonic(), await _settled(connection)
    await asyncio.sleep(seconds)
    rows = await _settled(connection) - settled
    return pace_beside(rows / (time.monotonic() - started))


async def _ranges(
    connection: asyncpg.Connection, lane: Lane, rows_max: Callable[[], int], hook: Hook
) -> AsyncIterator[Sealed]:
    """Seals a lane up to where it stands in `lane`, and tells of each range."""
    last = -1
    while last < lane.result_sequence:
        if await connection.fetchval(_ERASURES_OPEN):
            await asyncio.sleep(2 * ERASE_BUSY_SECONDS)  # it gets its turn, however much is to seal
        sealed = await seal_range(connection, lane.lane, rows_max=rows_max(), hook=hook)
        if not sealed.rows_total:
            return
        last = sealed.last_result
        yield sealed


async def _settled(connection: asyncpg.Connection) -> int:
    return sum(lane.journal_sequence for lane in await read_lanes(connection))
