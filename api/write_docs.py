"""What the OpenAPI document tells of the routes that write one candidate."""

from http import HTTPStatus
from typing import Any

from api import examples
from api.bodies import JSON, MERGE_PATCH
from api.openapi import UUID_SCHEMA, answer, body, header, inlined, needs, parameter, problems
from api.read_docs import CANDIDATE_EXAMPLE
from api.schemas import CommandDocument
from domain.candidate import CandidateState, Changes, NewCandidate
from domain.limits import COMMAND_ID_CHARACTERS_MAX, ERASE_REASON_CHARACTERS_MAX

_ID_IN_BODY = {"id": UUID_SCHEMA}
_CHANGES = inlined(Changes)
_NEW = inlined(NewCandidate)

CANDIDATE_ID = parameter("candidate_id", "path", UUID_SCHEMA)
WRITE_HEADERS = [
    parameter(
        "Idempotency-Key",
        "header",
        {"type": "string", "minLength": 1, "maxLength": COMMAND_ID_CHARACTERS_MAX},
        "Repeat it to try again: the answer is that of the first time. Of this user alone.",
        example="order-17",
    ),
    parameter(
        "Prefer",
        "header",
        {"type": "string"},
        "`wait=S`: seconds to wait for the outcome, 10 by default, at most 30.",
        example="wait=5",
    ),
]
WRITE_ANSWER_HEADERS = {
    "Preference-Applied": header("RFC 7240", example="wait=5"),
    "RateLimit": header("What is left of the user's allowance", example='"writes";r=99;t=3600'),
    "RateLimit-Policy": header("The user's allowance", example='"writes";q=100;w=3600'),
}
WRITE_ERRORS = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
BODY_ERRORS = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
)
_ETAG = {"ETag": header("The version, quoted", example='"7"')}
PENDING: dict[int | str, dict[str, Any]] = {
    202: answer(
        "Published, and not settled in time; Location tells later",
        examples.PENDING,
        model=CommandDocument,
        headers={
            "Location": header(
                "Its outcome",
                example="/api/gulf-funnel/commands/order-17?source=…&position=3:1718",
            ),
            "Retry-After": header("Seconds", example="1"),
            **WRITE_ANSWER_HEADERS,
        },
    )
}

PATCH: dict[str, Any] = {
    "response_model": CandidateState,
    "responses": {
        200: answer(
            "Changed, or so already", CANDIDATE_EXAMPLE, headers=_ETAG | WRITE_ANSWER_HEADERS
        ),
        **PENDING,
        **problems(
            *WRITE_ERRORS,
            *BODY_ERRORS,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.GONE,
            HTTPStatus.PRECONDITION_FAILED,
        ),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": [
            CANDIDATE_ID,
            parameter(
                "on_conflict",
                "query",
                {"type": "string", "enum": ["reject", "merge", "overwrite"], "default": "reject"},
                "What to do if the candidate has another version than `If-Match` says.",
            ),
            parameter(
                "If-Match",
                "header",
                {"type": "string"},
                "The ETag of the version that the changes were made from.",
                example='"7"',
            ),
            *WRITE_HEADERS,
        ],
        **body(
            _CHANGES | {"title": "Changes", "properties": _ID_IN_BODY | _CHANGES["properties"]},
            media_types=(JSON, MERGE_PATCH),
            examples={
                "a stage further": {"status": "interview", "pipeline_stage": "tech.onsite"},
                "tags and attributes": {
                    "tags": {"add": ["senior"], "remove": ["junior"]},
                    "attributes": {"notice_weeks": 6, "visa": None},
                },
            },
        ),
        **needs("candidates:write"),
    },
}
CREATE: dict[str, Any] = {
    "status_code": 201,
    "response_model": CandidateState,
    "responses": {
        201: answer(
            "Created",
            CANDIDATE_EXAMPLE | {"version": 1},
            headers=_ETAG
            | {"Location": header("The candidate", example="/api/gulf-funnel/candidates/…")}
            | WRITE_ANSWER_HEADERS,
        ),
        **PENDING,
        **problems(*WRITE_ERRORS, *BODY_ERRORS, HTTPStatus.CONFLICT, HTTPStatus.GONE),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": WRITE_HEADERS,
        **body(
            _NEW | {"title": "NewCandidate", "properties": _ID_IN_BODY | _NEW["properties"]},
            media_types=(JSON,),
            examples={
                "the least": {
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "email": "ada@example.com",
                }
            },
        ),
        **needs("candidates:write"),
    },
}
ERASE: dict[str, Any] = {
    "status_code": 202,
    "response_model": CommandDocument,
    "responses": {
        202: PENDING[202] | {"description": "Taken on, or not settled in time"},
        **problems(*WRITE_ERRORS, HTTPStatus.NOT_FOUND),
    },
    "tags": ["candidates"],
    "openapi_extra": {
        "parameters": [
            CANDIDATE_ID,
            parameter(
                "reason",
                "query",
                {"type": "string", "minLength": 1, "maxLength": ERASE_REASON_CHARACTERS_MAX},
                "Why; it is kept, so it should name no person.",
                required=True,
                example="request 2026-118",
            ),
            *WRITE_HEADERS,
        ],
        **needs("candidates:erase"),
    },
}
