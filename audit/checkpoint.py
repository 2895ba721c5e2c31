"""Checkpoints: the state of a lane at a cut, so that what remains of its journal still rebuilds.

Written lane by lane while consumers go on, and cumulative: candidates that did not change in the
month to be dropped stay as an older cut left them. Each is sealed as a link of its lane's chain.
May be interrupted at any place and begun again.
"""

import asyncio
from datetime import datetime

import asyncpg

from audit.chain import append_link, chain_head
from audit.sqlfiles import statement
from contract.lanes import Hook
from domain.limits import RETENTION_TRIES_MAX

_BEGIN = statement("begin_checkpoint")
_BLANK = statement("blank_checkpoint")
_DIGEST = statement("checkpoint_digest")
_END = statement("end_checkpoint")
_OPEN = statement("checkpoint_open")
_SEAL_LOCKS = statement("seal_locks")
_WRITE = statement("write_checkpoint")

_TRY_AGAIN_SECONDS = 0.5


class SealerBusy(Exception):
    """Another sealer holds the lane's chain, again and again: try later."""


async def write_checkpoint(
    connection: asyncpg.Connection,
    lane: int,
    *,
    partition: str,
    starts_at: datetime,
    cut_at: datetime,
    hook: Hook,
) -> None:
    """The lane's state at `cut_at`, the end of its oldest partition, unless it is there already.

    Raises:
        SealerBusy: a sealer was in the way for long.
    """
    await connection.execute(_BEGIN, lane, starts_at, cut_at, partition)
    hook("after_checkpoint_begin")
    for _ in range(RETENTION_TRIES_MAX):
        if await _write(connection, lane, starts_at, cut_at, hook):
            hook("after_checkpoint")
            return
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
    raise SealerBusy(f"lane {lane} is being sealed by another process")


async def _write(
    connection: asyncpg.Connection, lane: int, starts_at: datetime, cut_at: datetime, hook: Hook
) -> bool:
    """The states and the cut as a link; erasures are put off for so long, so that none misses a
    state that is not committed yet. False if a sealer, or an erasure, is at the lane.
    """
    async with connection.transaction():
        if not await connection.fetchval(_SEAL_LOCKS, lane):
            return False
        cut = await connection.fetchrow(_OPEN, lane, cut_at)
        if cut is None:  # no rows of the lane, or done
            return True
        await connection.execute(_WRITE, lane, starts_at, cut_at)
        hook("after_checkpoint_write")
        await connection.execute(_BLANK, lane)
        (found,) = await connection.fetch(_DIGEST, lane)
        await append_link(
            connection,
            lane,
            await chain_head(connection, lane),
            kind="cut",
            first_result=1,
            last_result=cut["result_sequence"],
            rows_total=found["rows_total"],
            last_recorded_at=cut["last_recorded_at"],
            digest=found["digest"],
        )
        await connection.execute(_END, lane, cut_at)
        hook("after_checkpoint_link")
        return True
