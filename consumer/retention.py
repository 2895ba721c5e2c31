"""Forgets dead letters that are older than a setting, a bounded number at a time.

Only the table with their bytes: that there was a dead letter, the journal keeps. PostgreSQL's own
function decides what may go; this only says how often to ask.
"""

import time
from datetime import timedelta

import asyncpg
import structlog

from consumer.sqlfiles import statement
from consumer.store import asked
from domain.limits import EXPIRE_EVERY_SECONDS, EXPIRED_LETTERS_MAX

_EXPIRE = statement("expire_dead_letters")

log = structlog.get_logger("consumer")


class Retention:
    """Asked at every heartbeat; acts when it is time."""

    def __init__(self, pool: asyncpg.Pool, *, dead_letters_kept: timedelta) -> None:
        self._pool = pool
        self._kept = dead_letters_kept
        self._due_at = time.monotonic()

    async def run_once(self) -> int:
        """How many letters were forgotten now. Raises StoreAway, TryAgain."""
        if time.monotonic() < self._due_at:
            return 0
        async with asked(self._pool) as connection:
            total = int(await connection.fetchval(_EXPIRE, self._kept, EXPIRED_LETTERS_MAX))
        if total < EXPIRED_LETTERS_MAX:  # else there may be more
            self._due_at = time.monotonic() + EXPIRE_EVERY_SECONDS
        if total:
            log.info("dead letters forgotten", action="dead_letters_expired", total=total)
        return total
