"""Pages of other origins: shut out, unless the settings name them. Cookies are never used."""

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api.limits import CORS_PREFLIGHT_S

_REQUEST_HEADERS = [
    "authorization",
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "last-event-id",
    "prefer",
    "traceparent",
    "tracestate",
    "x-request-id",
]
_ANSWER_HEADERS = [
    "etag",
    "link",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "x-request-id",
]


def cors(origins: Sequence[str]) -> list[Middleware]:
    """The middleware that lets these origins ask us; none if there are none."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
            max_age=CORS_PREFLIGHT_S,
        )
    ]
