"""What the OpenAPI document tells of the routes for dead letters."""

from http import HTTPStatus
from typing import Any, NotRequired, get_args

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from api import examples
from api.limits import PAGE_ROWS, PAGE_ROWS_MAX, POSITION_LANE_MAX
from api.openapi import LINK, READ_ERRORS, UUID_SCHEMA, answer, needs, parameter, problems
from domain.outcomes import DeadLetterCode

_TIME = {"type": "string", "format": "date-time"}
_ID = {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}


class OriginDocument(TypedDict):
    """Where the record stands in the commands topic."""

    partition: int
    offset: int


class LastRedriveDocument(TypedDict):
    """The newest redrive; `outcome` is null while it is under way."""

    at: str
    by: str
    outcome: str | None
    reason: str | None


class DeadLetterDocument(TypedDict):
    """One dead letter; `redrive_of` is the id of the first death of a redriven record."""

    id: str
    recorded_at: str
    origin: OriginDocument
    error_code: DeadLetterCode
    error_detail: str
    organization_id: str | None
    redrive_of: str | None
    record_bytes: int
    redrives_total: int
    last_redrive: LastRedriveDocument | None


class DeadLettersDocument(TypedDict):
    """One page of the queue."""

    items: list[DeadLetterDocument]
    next_cursor: str | None


class RedriveDocument(TypedDict):
    """A redrive: an outcome of a command, `dead_lettered`, or `pending`; `ended` is where."""

    id: str
    redrive_id: str
    outcome: str
    reason: NotRequired[str]
    ended: NotRequired[str]


LIST: dict[str, Any] = {
    "response_model": DeadLettersDocument,
    "responses": {
        200: answer(
            "A page of the queue",
            {"items": [examples.DEAD_LETTER], "next_cursor": "kV3q…"},
            headers=LINK,
        ),
        **problems(*READ_ERRORS),
    },
    "tags": ["operators"],
    "openapi_extra": {
        "parameters": [
            parameter(
                "error_code",
                "query",
                {
                    "type": "array",
                    "items": {"type": "string", "enum": list(get_args(DeadLetterCode))},
                },
                "Repeatable.",
            ),
            parameter("since", "query", _TIME, "Died at or after."),
            parameter("until", "query", _TIME, "Died before."),
            parameter("organization_id", "query", UUID_SCHEMA, "As far as it is known."),
            parameter(
                "lane", "query", {"type": "integer", "minimum": 0, "maximum": POSITION_LANE_MAX}
            ),
            parameter("redriven", "query", {"type": "boolean"}, "Only those that were, or not."),
            parameter(
                "limit",
                "query",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": PAGE_ROWS_MAX,
                    "default": PAGE_ROWS,
                },
            ),
            parameter("cursor", "query", {"type": "string"}, "`next_cursor` of the page before."),
        ],
        **needs("platform:operate"),
    },
}
REDRIVE: dict[str, Any] = {
    "response_model": RedriveDocument,
    "responses": {
        200: answer("Sent, and how it ended", examples.REDRIVEN),
        202: answer(
            "Sent, and not settled in time", examples.REDRIVE_PENDING, model=RedriveDocument
        ),
        **problems(
            *READ_ERRORS,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
            HTTPStatus.TOO_MANY_REQUESTS,
        ),
    },
    "tags": ["operators"],
    "openapi_extra": {
        "parameters": [
            parameter("dead_letter_id", "path", _ID),
            parameter(
                "again",
                "query",
                {"type": "boolean", "default": False},
                "Also if it was redriven before, or died of a redrive.",
            ),
            parameter(
                "Prefer",
                "header",
                {"type": "string"},
                "`wait=S`: seconds to wait for the outcome, 10 by default, at most 30.",
                example="wait=5",
            ),
        ],
        **needs("platform:operate"),
    },
}
