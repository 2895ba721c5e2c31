"""The progress of bulk operations as server-sent events.

However many look on, the database is asked one question at a time for all of them. A stream ends
with its operation, with its client, with the process, or after a while: then the client comes back.
"""

import asyncio
from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.coalesce import Coalesced
from api.event_stream import HEARTBEAT, EventStream, frame
from api.limits import STREAM_BEAT_S, STREAM_S_MAX, STREAM_TICK_S, STREAMS_MAX
from api.operation_reads import Operation, OperationKey
from api.problems import unavailable


class ProgressStreams:
    """All streams of this process. `ending` is set when it is told to stop."""

    def __init__(
        self,
        operations: Coalesced[OperationKey, Operation],
        *,
        ending: asyncio.Event,
        streams_max: int = STREAMS_MAX,
    ) -> None:
        self._operations = operations
        self._ending = ending
        self._streams_max = streams_max
        self.total = 0

    def stream(self, key: OperationKey, operation: Operation) -> Response:
        """From `operation`, as it is now, to its end.

        Raises:
            Problem: 503, this process has as many streams as it takes.
        """
        if self.total >= self._streams_max:
            raise unavailable("Too many streams are open.")
        return EventStream(self._counted(key, operation))

    async def _counted(self, key: OperationKey, operation: Operation) -> AsyncIterator[bytes]:
        self.total += 1
        try:
            async for event in self._events(key, operation):
                yield event
        finally:
            self.total -= 1

    async def _events(self, key: OperationKey, operation: Operation) -> AsyncIterator[bytes]:
        """An event for each look that shows something new; a comment now and then if none does."""
        told: Operation | None = operation
        yield _event(operation)
        silent_s = lasted_s = 0.0
        while told is not None and told["completed_at"] is None and lasted_s < STREAM_S_MAX:
            if await self._process_ends_within(STREAM_TICK_S):
                return
            lasted_s += STREAM_TICK_S
            silent_s += STREAM_TICK_S
            seen = await self._operations.get(key)
            if seen is not None and seen != told:
                yield _event(seen)
                silent_s = 0.0
            elif silent_s >= STREAM_BEAT_S:
                yield HEARTBEAT
                silent_s = 0.0
            told = seen

    async def _process_ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._ending.wait()
        except TimeoutError:
            return False


def told_before(request: Request, operation: Operation) -> bool:
    """Whether the client comes back with this event as the last that it has seen."""
    return bool(request.headers.get("last-event-id") == operation["updated_at"])


def _event(operation: Operation) -> bytes:
    """Its id is when the operation was there: a stream begins with the present in any case."""
    return frame(
        event="progress" if operation["completed_at"] is None else "completed",
        event_id=operation["updated_at"],
        data=orjson.dumps(operation),
    )
