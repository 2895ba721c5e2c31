"""Each request as a span, in the trace that its `traceparent` names; its command goes on with it.

A span tells method, route template and status: no path, no query, no id (see `api.observe`).
"""

from collections.abc import Iterable
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import trace_context
from api.observe import route_of
from contract.spans import OpenSpan, untraced


def traced(open_span: OpenSpan, *, base_path: str) -> list[Middleware]:
    """The middleware, unless nobody traces; requests elsewhere than at `base_path` are probes."""
    if open_span is untraced:
        return []
    return [Middleware(Traced, open_span=open_span, base_path=base_path)]


class Traced:
    """Inside `Observe`, which answers what fails here."""

    def __init__(self, app: ASGIApp, *, open_span: OpenSpan, base_path: str) -> None:
        self._app = app
        self._open_span = open_span
        self._base_path = base_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(self._base_path):
            await self._app(scope, receive, send)
            return
        method = "HEAD" if scope.get("funnel.bodiless") else scope["method"]
        told: dict[str, str | int] = {"http.request.method": method}
        parent = trace_context(Headers(scope=scope))

        async def note_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["http.response.status_code"] = message["status"]
            await send(message)

        with self._open_span(method, "server", told, parent=parent) as span:
            _replace_trace_context(scope, span.context().items())
            try:
                await self._app(scope, receive, note_status)
            finally:
                told["http.route"] = route_of(scope)
                status = int(told.get("http.response.status_code", 0))
                failed = str(status) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
                span.tell(f"{method} {told['http.route']}", told, error=failed)


def _replace_trace_context(scope: Scope, fields: Iterable[tuple[str, str]]) -> None:
    """What is caused by this request is caused by its span."""
    kept = [each for each in scope["headers"] if each[0] not in (b"traceparent", b"tracestate")]
    scope["headers"] = kept + [(name.encode(), value.encode()) for name, value in fields]
