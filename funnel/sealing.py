"""The background sealer of a consumer process: beside the lanes, and never in their way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog

from audit.seal import keep_sealing
from contract.lanes import Hook

log = structlog.get_logger("funnel")


@asynccontextmanager
async def sealing(
    database_url: str, *, every: timedelta | None, hook: Hook = lambda _: None
) -> AsyncIterator[None]:
    """Within it the journal is sealed every so often; None: not by this process.

    A fault of the sealer is told at once and raised at the end: the lanes do not depend on it.
    """
    if every is None:
        yield
        return
    sealer = keep_sealing(database_url, every=every, hook=hook)
    task = asyncio.create_task(sealer, name="sealer")
    task.add_done_callback(_tell)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("sealing ended", action="sealing_failed", error=type(error).__name__)
