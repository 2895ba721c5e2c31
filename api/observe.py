"""Around every request: its id, the headers all answers have, metrics and one log record.

HEAD is answered as GET without the body. An exception that nobody foresaw is logged here and
becomes a problem without a trace of it. No record holds an id of a person, a path or a query.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from itertools import count

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.headers import valid_request_id
from api.metrics import Metrics
from api.problems import internal_error

CLIENT_CLOSED = 499  # nginx's word for it; never sent
OTHER = "other"  # no route, or none of the contract's

_ADDED = "gulf-funnel.headers"

SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_POLICY = b"default-src 'none'; frame-ancestors 'none'"
_DOCS_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; "
    b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
)
"""Swagger UI is set up by a script inside its page."""


def add_headers(request: Request, headers: Mapping[str, str]) -> None:
    """Whatever this request is answered, these go with it."""
    request.scope.setdefault(_ADDED, []).extend(
        (name.encode(), value.encode()) for name, value in headers.items()
    )


class Observe:
    """The outermost middleware of ours."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger("api")
        self._process = secrets.token_hex(8)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET", "funnel.bodiless": True}
        answer = _Answer(scope, send, self._request_id(scope), bodiless=method == "HEAD")
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            self._log.exception(
                "a request failed",
                action="http_request_failed",
                route=route_of(scope),
                request_id=answer.request_id,
            )
            if answer.status is not None:
                raise  # too late to say so: the server breaks the connection
            await internal_error().response()(scope, receive, answer.send)
        finally:
            self._note(method, route_of(scope), answer, time.perf_counter() - started)

    def _request_id(self, scope: Scope) -> str:
        """The client's if it may be echoed, else one of ours: a process's name and a number."""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and valid_request_id(text := str(value, "latin-1")):
                return text
        return f"{self._process}-{next(self._numbers)}"

    def _note(self, method: str, route: str, answer: "_Answer", seconds: float) -> None:
        status = answer.status or CLIENT_CLOSED
        self._metrics.count(method=method, route=route, status=status, seconds=seconds)
        self._log.info(
            "request",
            action="http_request",
            method=method,
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
            request_id=answer.request_id,
        )


class _Answer:
    """Adds the headers on the way out and remembers the status."""

    def __init__(self, scope: Scope, send: Send, request_id: str, *, bodiless: bool) -> None:
        self._scope = scope
        self._send = send
        self._bodiless = bodiless
        self.request_id = request_id
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            message["headers"] = [
                *message["headers"],
                *SECURITY_HEADERS,
                (b"content-security-policy", _policy(self._scope)),
                (b"x-request-id", self.request_id.encode()),
                *self._told(message["headers"]),
            ]
        elif self._bodiless:
            message = {**message, "body": b""}
        await self._send(message)

    def _told(self, already: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """What `add_headers` was told, unless the answer says it itself."""
        added = self._scope.get(_ADDED)
        if not added:
            return []
        names = {name for name, _ in already}
        return [(name, value) for name, value in added if name not in names]


def _policy(scope: Scope) -> bytes:
    return _DOCS_POLICY if scope["path"].startswith("/docs") else _POLICY


def route_of(scope: Scope) -> str:
    """The template of the route that answers; `OTHER` before or without one."""
    return getattr(scope.get("route"), "path_format", None) or OTHER
