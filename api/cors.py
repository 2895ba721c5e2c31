"""Pages of other origins: shut out, unless the settings name them. Cookies are never used."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from api.limits import CORS_PREFLIGHT_S
from api.problems import Problem

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

_OF_THE_BODY = ("content-type", "content-length")


class ProblemCors(CORSMiddleware):
    """A refused preflight is a problem, as every error is."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's answer to a preflight, unless that is a refusal."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < HTTPStatus.BAD_REQUEST:
            return answer
        kept = {name: value for name, value in answer.headers.items() if name not in _OF_THE_BODY}
        return Problem(
            HTTPStatus.BAD_REQUEST,
            "cors_refused",
            "Pages of this origin may not ask this, or not with this method or these headers.",
            headers=kept,
        ).response()


def cors(origins: Sequence[str]) -> list[Middleware]:
    """The middleware that lets these origins ask us; none if there are none."""
    if not origins:
        return []
    return [
        Middleware(
            ProblemCors,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
            max_age=CORS_PREFLIGHT_S,
        )
    ]
