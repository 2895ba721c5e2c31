"""Server-sent events (WHATWG HTML 9.2) as a response that ends well, whoever ends it.

A client that leaves is noticed at once, also while nothing is sent. What the events' source
raises after the head was sent ends the stream: the client comes back and is told then.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.database import DatabaseAway
from api.waiting import TooManyWaits

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 1000

log = structlog.get_logger("api")


class EventStream(Response):
    """Sends frames as `frames` gives them; of HEAD, the head alone."""

    media_type = MEDIA_TYPE

    def __init__(self, frames: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        if not scope.get("funnel.bodiless"):
            sending = asyncio.create_task(self._send(send))
            leaving = asyncio.create_task(_left(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                leaving.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)
            if not sending.cancelled():
                sending.result()
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        try:
            await send(_body(b"retry: %d\n\n" % RETRY_MS))
            async for frame in self._frames:
                await send(_body(frame))
        except OSError:
            return  # the client has left
        except (DatabaseAway, TooManyWaits) as error:
            log.info("a stream ended early", action="stream_ended", cause=type(error).__name__)


def frame(*, event: str, event_id: str, data: bytes) -> bytes:
    """One event; `data` is JSON as orjson writes it, which has no line breaks."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), event.encode(), data)


HEARTBEAT = b": still here\n\n"


def _body(part: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": part, "more_body": True}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
