"""How many writes a user may make in a while: `429` with the fields that tell when to come back.

The allowance is a courtesy to everybody else, not a wall: if its store does not answer, writes go
on, and the log says so.
"""

import asyncio
import math
import time
from http import HTTPStatus

import structlog
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

from api.auth import Principal
from api.limits import RATE_STORE_S_MAX
from api.problems import Problem

log = structlog.get_logger("api")

OFF = "off"
MEMORY = "memory"


class WriteLimit:
    """So many writes for each user, counted in windows that begin with the first.

    Args:
        allowed: `100/hour`; a bare number is an hour's; `off`.
        store: `memory` counts in this process alone; `redis://…` for all processes together.
    """

    def __init__(self, allowed: str, *, store: str = MEMORY) -> None:
        self._item = _item(allowed)
        self._limiter = FixedWindowRateLimiter(_storage(store))
        self._failing = False

    async def take(self, principal: Principal) -> dict[str, str]:
        """Count one write; the header fields that tell what is left.

        Raises:
            Problem: 429, nothing is left.
        """
        if self._item is None:
            return {}
        user = principal.organization_id, principal.user
        try:
            async with asyncio.timeout(RATE_STORE_S_MAX):
                taken = await self._limiter.hit(self._item, *user)
                reset, remaining = await self._limiter.get_window_stats(self._item, *user)
        except (StorageError, TimeoutError) as error:
            self._note(type(error).__name__)
            return {}
        self._note(None)
        seconds = max(1, math.ceil(reset - time.time()))
        headers = {
            "ratelimit": f'"writes";r={remaining};t={seconds}',
            "ratelimit-policy": f'"writes";q={self._item.amount};w={self._item.get_expiry()}',
        }
        if not taken:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too_many_requests",
                "The user's allowance of writes is used up.",
                headers=headers | {"retry-after": str(seconds)},
            )
        return headers

    def _note(self, cause: str | None) -> None:
        if cause is not None and not self._failing:
            log.warning("writes are not counted", action="write_limit_away", cause=cause)
        if cause is None and self._failing:
            log.info("writes are counted again", action="write_limit_back")
        self._failing = cause is not None


def _item(allowed: str) -> RateLimitItem | None:
    if allowed == OFF:
        return None
    return parse(f"{allowed}/hour" if allowed.isdecimal() else allowed)


def _storage(store: str) -> Storage:
    if store == MEMORY:
        return MemoryStorage()
    storage = storage_from_string(f"async+{store}", implementation="redispy", wrap_exceptions=True)
    if not isinstance(storage, Storage):
        raise TypeError("the store of the write limit is not an asynchronous one")
    return storage
