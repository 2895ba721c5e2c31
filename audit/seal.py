"""Sealing: what a lane has written since its newest link becomes links, range by range.

Off the hot path: it reads what is committed, by its own role, and locks nothing that a lane wants.
In a consumer it takes a small share of one core while lanes are busy, and so may fall behind; it
catches up when they are quiet.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import NamedTuple

import asyncpg
import structlog

from audit.chain import append_link, chain_head, range_digests
from audit.database import AuditRefused, open_audit
from audit.sequences import Lane, read_lanes
from audit.sqlfiles import statement
from domain.limits import SEAL_BUSY_ROWS, SEAL_RANGE_ROWS, SEAL_SHARE_MAX

ROLE = "funnel_sealer"
_ADD_SALTS = statement("add_salts")
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


async def seal_range(connection: asyncpg.Connection, lane: int) -> Sealed:
    """Seal the next range of a lane, in one transaction, unless another sealer is at it."""
    async with connection.transaction():
        if not await connection.fetchval(_SEAL_LOCKS, lane):
            return Sealed(0, 0)
        head = await chain_head(connection, lane)
        first = (head.last_result if head else 0) + 1
        last = await connection.fetchval(_NEXT_RANGE, lane, first - 1, SEAL_RANGE_ROWS)
        if last is None:
            return Sealed(0, first - 1)
        await connection.execute(_ADD_SALTS, lane, first, last)
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
        return Sealed(found.rows_total, last)


async def seal(database_url: str, *, report: Report) -> int:
    """Seal all that is settled now; tells how many rows that were.

    Raises:
        AuditRefused: the role, a grant or a table is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    rows_total = 0
    async with open_audit(database_url, name="funnel journal seal", role=ROLE) as connection:
        lanes = await read_lanes(connection)
        total, before = sum(lane.result_sequence for lane in lanes), 0
        for lane in lanes:
            async for sealed in _ranges(connection, lane):
                rows_total += sealed.rows_total
                report(before + min(sealed.last_result, lane.result_sequence), total)
            before += lane.result_sequence
            report(before, total)
    return rows_total


async def keep_sealing(database_url: str, *, every: timedelta) -> None:
    """Seal every so often, until cancelled; one process does it, the others stand by.

    What PostgreSQL does not do now is left for the next time. Without the role it ends: who may
    not seal here has `funnel journal seal` run elsewhere.
    """
    while True:
        try:
            async with open_audit(database_url, name="funnel sealer", role=ROLE) as connection:
                while True:
                    if await connection.fetchval(_ONE_SEALER):
                        await _seal_gently(connection)
                    await asyncio.sleep(every.total_seconds())
        except AuditRefused as refused:
            log.warning("the journal is not sealed here", action="no_sealer", cause=str(refused))
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log.info("sealing put off", action="sealing_put_off", error=type(error).__name__)
            await asyncio.sleep(every.total_seconds())


async def _seal_gently(connection: asyncpg.Connection) -> None:
    """All lanes, with a rest after each range that is long while lanes are busy."""
    for lane in await read_lanes(connection):
        started, settled = time.monotonic(), await _settled(connection)
        async for _ in _ranges(connection, lane):
            worked = time.monotonic() - started
            now = await _settled(connection)
            share = SEAL_SHARE_MAX if now - settled > SEAL_BUSY_ROWS * worked else 0.5
            await asyncio.sleep(worked / share - worked)
            started, settled = time.monotonic(), await _settled(connection)


async def _ranges(connection: asyncpg.Connection, lane: Lane) -> AsyncIterator[Sealed]:
    """Seals a lane up to where it stands in `lane`, and tells of each range."""
    last = -1
    while last < lane.result_sequence:
        sealed = await seal_range(connection, lane.lane)
        if not sealed.rows_total:
            return
        last = sealed.last_result
        yield sealed


async def _settled(connection: asyncpg.Connection) -> int:
    return sum(lane.journal_sequence for lane in await read_lanes(connection))
