"""Errors as RFC 9457 problems: the one shape of every answer that is not a success.

A problem holds no input value, no stack trace and no SQL. Its `code` is stable, for programs.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from api.database import DatabaseAway
from api.limits import RETRY_AFTER_S
from domain.field_errors import ERROR_CODES, ErrorCode, FieldError, pointer
from domain.limits import ERRORS_MAX

MEDIA_TYPE = "application/problem+json"
TYPE_URI = "urn:gulf-funnel:problem:"

# pydantic's error type -> the code of domain.field_errors, and what to say.
_MEANINGS: Mapping[str, tuple[ErrorCode, str]] = {
    "extra_forbidden": ("unknown_field", "The parameter is not known here."),
    "missing": ("missing", "The parameter is required."),
    "string_too_short": ("too_short", "The value is too short."),
    "string_too_long": ("too_long", "The value is too long."),
    "too_long": ("too_long", "These are too many."),
    "literal_error": ("not_one_of", "The value is not one of those that are known here."),
    "int_parsing": ("wrong_type", "An integer is required."),
    "greater_than_equal": ("out_of_range", "The number is too small."),
    "less_than_equal": ("out_of_range", "The number is too large."),
}
_UNFORESEEN: tuple[ErrorCode, str] = ("malformed", "The value is not acceptable.")

# What the router itself answers.
_ROUTING_CODES: Mapping[int, tuple[str, str]] = {
    404: ("unknown_route", "Nothing is here."),
    405: ("method_not_allowed", "This resource does not take this method."),
}


class Problem(Exception):
    """The request ends here; how, is for the client to read."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extension: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extension = dict(extension or {})

    def document(self) -> dict[str, Any]:
        """What the client reads."""
        return {
            "type": TYPE_URI + self.code,
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "code": self.code,
            "errors": [error._asdict() for error in self.errors],
            **self.extension,
        }

    def response(self) -> Response:
        """As `application/problem+json`."""
        return Response(
            orjson.dumps(self.document()), self.status.value, self.headers, media_type=MEDIA_TYPE
        )


def invalid_request(*errors: FieldError) -> Problem:
    """400: `errors` point into the body, or to `/path/…`, `/query/…`, `/header/…`."""
    return Problem(
        HTTPStatus.BAD_REQUEST,
        "invalid_request",
        "The request breaks the rules listed in errors.",
        errors=errors[:ERRORS_MAX],
    )


def unavailable(detail: str, *, extension: Mapping[str, Any] | None = None) -> Problem:
    """503: the same request may succeed in a moment."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        detail,
        headers={"retry-after": str(RETRY_AFTER_S)},
        extension=extension,
    )


def internal_error() -> Problem:
    """500: a fault of ours, told by its log record only."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "The request failed; it is logged."
    )


async def answer_problem(_request: Request, problem: Problem) -> Response:
    """For `Problem`."""
    return problem.response()


async def answer_away(_request: Request, _away: DatabaseAway) -> Response:
    """For `DatabaseAway`."""
    return unavailable("The database is away.").response()


async def answer_left(_request: Request, _left: ClientDisconnect) -> Response:
    """For `ClientDisconnect`: nobody will read it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def answer_http_exception(request: Request, exception: HTTPException) -> Response:
    """For what Starlette raises: no route, another method, a file that is not there."""
    status = HTTPStatus(exception.status_code)
    code, detail = _ROUTING_CODES.get(
        status.value, (status.name.lower(), "The request cannot be answered.")
    )
    headers = {name.lower(): value for name, value in (exception.headers or {}).items()}
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = ", ".join(sorted(_methods_allowed(request)))
    return Problem(status, code, detail, headers=headers).response()


def _methods_allowed(request: Request) -> set[str]:
    """Of all routes of this path: Starlette's own answer knows the first only."""
    allowed = set[str]()
    for route in request.app.router.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            allowed |= set(getattr(route, "methods", None) or ())
    return allowed | ({"HEAD"} if "GET" in allowed else set())


async def answer_invalid(_request: Request, refusal: RequestValidationError) -> Response:
    """For parameters that FastAPI refused."""
    return invalid_request(*map(_field_error, refusal.errors()[:ERRORS_MAX])).response()


def query_errors(refusal: ValidationError) -> list[FieldError]:
    """What is wrong with parameters of the query that a model of ours refused."""
    faults = refusal.errors(include_url=False, include_input=False)
    return [_field_error({**fault, "loc": ("query", *fault["loc"])}) for fault in faults]


def _field_error(fault: Mapping[str, Any]) -> FieldError:
    where = pointer(fault["loc"])
    if fault["type"] in ERROR_CODES:
        return FieldError(where, fault["type"], fault["msg"])
    code, detail = _MEANINGS.get(fault["type"], _UNFORESEEN)
    return FieldError(where, code, detail)
