"""What the OpenAPI document tells of the routes that read candidates, their past and changes."""

from http import HTTPStatus
from typing import Any

from api.gate import LOOKING_BACK
from api.limits import (
    ATTRIBUTE_CHARACTERS_MAX,
    ATTRIBUTES_ASKED_MAX,
    CHANGES_PAGE_ROWS,
    CURSOR_CHARACTERS_MAX,
    PAGE_ROWS,
    PAGE_ROWS_MAX,
    QUERY_CHARACTERS_MAX,
    TAGS_ASKED_MAX,
)
from api.openapi import (
    LINK,
    READ_ERRORS,
    UUID_SCHEMA,
    answer,
    header,
    inlined,
    needs,
    parameter,
    problems,
)
from api.schemas import CandidatesDocument, ChangesDocument, HistoryDocument
from domain.candidate import CandidateState
from domain.fields import Stage, Status
from domain.limits import NUMBER_MAX, RATING_MAX, SOURCE_CHARACTERS_MAX, TAG_CHARACTERS_MAX

_NO_NUL = r"^[^\x00]*$"
_TIME = {"type": "string", "format": "date-time"}
_RATING = {"type": "integer", "minimum": 0, "maximum": RATING_MAX}
CANDIDATE_EXAMPLE = {
    "organization_id": "0193b1c0-0000-7000-8000-00000000000a",
    "candidate_id": "0193b1c0-0000-7000-8000-0000000000c1",
    "first_name": "Zoë",
    "last_name": "Al Maktoum",
    "email": "zoe@example.ae",
    "phone": "+971501234567",
    "status": "interview",
    "pipeline_stage": "tech.backend",
    "rating": 4,
    "source": "referral",
    "tags": ["python"],
    "attributes": {"notice_weeks": 6},
    "version": 7,
    "created_at": "2026-11-02T08:00:00.000000Z",
    "updated_at": "2026-11-25T09:30:00.000120Z",
}
_CHANGE_EXAMPLE = {
    "specversion": "1.0",
    "type": "candidate.updated.v1",
    "dataschema": "urn:gulf-funnel:schema:candidate.updated.v1",
    "source": "/gulf-funnel/candidates",
    "id": "candidates.changes.v1/3/1718",
    "time": "2026-11-25T09:30:00.000120Z",
    "sequence": "00000000000000001718",
    "subject": "0193b1c0-0000-7000-8000-0000000000c1",
    "correlationid": "order-17",
    "datacontenttype": "application/json",
    "cursor": "kV3q…",
    "data": {
        "organization_id": "0193b1c0-0000-7000-8000-00000000000a",
        "candidate_id": "0193b1c0-0000-7000-8000-0000000000c1",
        "version": 7,
        "previous_version": 6,
        "changed": {"rating": {"from": 3, "to": 4}},
        "state": CANDIDATE_EXAMPLE,
        "actor": "ada",
        "command_id": "order-17",
        "command_source": "/upstream",
        "sequence": 1718,
        "recorded_at": "2026-11-25T09:30:00.000120Z",
    },
}
_HISTORY_EXAMPLE = {
    "items": [
        {
            "version": 7,
            "previous_version": 6,
            "changed": {"rating": {"from": 3, "to": 4}},
            "actor": "ada",
            "command_id": "order-17",
            "command_source": "/upstream",
            "command_type": "candidate.update.v1",
            "recorded_at": "2026-11-25T09:30:00.000120Z",
        }
    ],
    "next_cursor": None,
}

_CANDIDATE_ID = parameter("candidate_id", "path", UUID_SCHEMA)


def _limit(rows: int, rows_max: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": rows_max, "default": rows}
    return parameter("limit", "query", schema, "How many items at most.")


def _cursor(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": CURSOR_CHARACTERS_MAX}
    return parameter(name, "query", schema, description)


GET_CANDIDATE: dict[str, Any] = {
    "response_model": CandidateState,
    "responses": {
        200: answer(
            "The candidate",
            CANDIDATE_EXAMPLE,
            headers={"ETag": header("The version, quoted", example='"7"')},
        ),
        304: {"description": "Still the version that the client has"},
        **problems(
            *READ_ERRORS,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.GONE,
            HTTPStatus.PRECONDITION_FAILED,
        ),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": [
            _CANDIDATE_ID,
            parameter(
                "version",
                "query",
                {"type": "integer", "minimum": 1, "maximum": NUMBER_MAX},
                "As it was at this version. Not together with `as_of`.",
                example=3,
            ),
            parameter(
                "as_of",
                "query",
                _TIME,
                "As it was at this instant.",
                example="2026-11-02T08:00:00Z",
            ),
            parameter("If-None-Match", "header", {"type": "string"}, "304 if it is one of these."),
            parameter("If-Match", "header", {"type": "string"}, "412 if it is none of these."),
        ],
        **needs(*LOOKING_BACK),
    },
}

LIST: dict[str, Any] = {
    "response_model": CandidatesDocument,
    "responses": {
        200: answer(
            "A page of candidates",
            {"items": [CANDIDATE_EXAMPLE], "next_cursor": "kV3q…"},
            headers=LINK,
        ),
        **problems(*READ_ERRORS),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": [
            parameter("status", "query", inlined(Status)),
            parameter(
                "pipeline_stage", "query", inlined(Stage), "This stage and all below it.",
                example="tech",
            ),
            parameter(
                "source", "query",
                {"type": "string", "minLength": 1, "maxLength": SOURCE_CHARACTERS_MAX,
                 "pattern": _NO_NUL},
            ),
            parameter("rating_min", "query", _RATING),
            parameter("rating_max", "query", _RATING),
            parameter(
                "tag", "query",
                {"type": "array", "maxItems": TAGS_ASKED_MAX,
                 "items": {"type": "string", "minLength": 1, "maxLength": TAG_CHARACTERS_MAX,
                           "pattern": _NO_NUL}},
                "Repeatable: candidates that have all of them.", explode=True, style="form",
            ),
            parameter(
                "attributes", "query",
                {"type": "object", "maxProperties": ATTRIBUTES_ASKED_MAX,
                 "propertyNames": {"pattern": r"^attribute\.[^\x00]+$",
                                   "maxLength": ATTRIBUTE_CHARACTERS_MAX},
                 "additionalProperties": {"type": "string", "pattern": _NO_NUL,
                                          "maxLength": ATTRIBUTE_CHARACTERS_MAX}},
                "`attribute.<name>=<value>`, each of them a parameter: candidates whose attribute"
                " is this text, number or boolean.", explode=True, style="form",
                example={"attribute.notice_weeks": "6"},
            ),
            parameter(
                "q", "query",
                {"type": "string", "minLength": 1, "maxLength": QUERY_CHARACTERS_MAX,
                 "pattern": _NO_NUL},
                "How the first name, the last name or the e-mail address begins, in any case.",
                example="al mak",
            ),
            parameter("updated_since", "query", _TIME, example="2026-11-01T00:00:00Z"),
            parameter("created_since", "query", _TIME, example="2026-11-01T00:00:00Z"),
            parameter(
                "sort", "query",
                {"type": "string", "default": "-updated_at",
                 "enum": ["updated_at", "-updated_at", "created_at", "-created_at", "last_name",
                          "-last_name"]},
                "With `-` the greatest first; last names without regard to case.",
            ),
            _limit(PAGE_ROWS, PAGE_ROWS_MAX),
            _cursor("cursor", "`next_cursor` of a page with the same filter and sort."),
        ],
        **needs("candidates:read"),
    },
}  # fmt: skip

HISTORY: dict[str, Any] = {
    "response_model": HistoryDocument,
    "responses": {
        200: answer("A page of versions, newest first", _HISTORY_EXAMPLE, headers=LINK),
        **problems(*READ_ERRORS, HTTPStatus.NOT_FOUND),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": [
            _CANDIDATE_ID,
            _limit(PAGE_ROWS, PAGE_ROWS_MAX),
            _cursor("cursor", "`next_cursor` of a page of the same candidate."),
        ],
        **needs(*LOOKING_BACK),
    },
}

_CHANGES_OK = answer(
    "A page of events, oldest first; `next_cursor` is never null",
    {"items": [_CHANGE_EXAMPLE], "next_cursor": "kV3q…"},
    headers=LINK | {"Preference-Applied": header("RFC 7240", example="wait=10")},
)
_CHANGES_OK["content"]["text/event-stream"] = {
    "schema": {
        "type": "string",
        "description": "Events `id` (the cursor), `event` (the type), `data` (as an item of a"
        " page); comments in between while nothing happens.",
    },
    "example": "id: kV3q…\nevent: candidate.updated.v1\ndata: {…}\n\n",
}

CHANGES: dict[str, Any] = {
    "response_model": ChangesDocument,
    "responses": {200: _CHANGES_OK, **problems(*READ_ERRORS, HTTPStatus.GONE)},
    "tags": ["changes"],
    "openapi_extra": {
        "parameters": [
            _cursor("after", "A cursor, or `now`; from the beginning without it."),
            _limit(CHANGES_PAGE_ROWS, CHANGES_PAGE_ROWS),
            parameter(
                "Prefer",
                "header",
                {"type": "string"},
                "`wait=S`: seconds to wait for an event if there is none, at most 30.",
                example="wait=10",
            ),
            parameter(
                "Last-Event-ID", "header", {"type": "string"}, "Of a stream: the last event's id."
            ),
        ],
        **needs(*LOOKING_BACK),
    },
}
