"""What the OpenAPI document tells of bulk updates and bulk operations."""

from http import HTTPStatus
from typing import Any

from api import examples
from api.beginnings import BEGINNING
from api.bodies import JSON
from api.event_stream import EventStream
from api.gate import LOOKING_BACK
from api.limits import ITEMS_PAGE_MAX, PAGE_ROWS, PAGE_ROWS_MAX
from api.openapi import (
    LINK,
    READ_ERRORS,
    UUID_SCHEMA,
    answer,
    body,
    header,
    inlined,
    needs,
    parameter,
    problems,
)
from api.operation_schemas import (
    BulkAnswer,
    OperationDocument,
    OperationItemsPage,
    OperationsPage,
    PendingOperationDocument,
)
from api.schemas import CommandDocument
from api.write_docs import (
    BODY_ERRORS,
    PENDING,
    WRITE_ANSWER_HEADERS,
    WRITE_ERRORS,
    WRITE_HEADERS,
)
from domain.candidate import BulkChanges
from domain.commands import BulkUpdateCandidates
from domain.outcomes import ITEM_OUTCOMES

_COMMAND = inlined(BulkUpdateCandidates)["properties"]
_IDS = [f"0193b1c0-0000-7000-8000-0000000000c{n}" for n in (1, 2)]
_ID = parameter("operation_id", "path", UUID_SCHEMA)
_CURSOR = parameter("cursor", "query", {"type": "string"}, "`next_cursor` of the page before.")
_RETRY_AFTER = {"Retry-After": header("Seconds", example="1")}
_LOCATION = {
    "Location": header("The operation", example="/api/gulf-funnel/bulk-operations/…")
} | WRITE_ANSWER_HEADERS

BULK_UPDATE: dict[str, Any] = {
    "response_model": BulkAnswer,
    "responses": {
        200: answer(
            "Every candidate was decided", examples.BULK_DECIDED, headers=WRITE_ANSWER_HEADERS
        ),
        202: answer(
            "Taken on as an operation, or not settled in time: Location tells later",
            examples.BULK_TAKEN_ON,
            model=BulkAnswer,
            headers=_LOCATION | _RETRY_AFTER,
        ),
        **problems(*WRITE_ERRORS, *BODY_ERRORS),
    },
    "tags": ["bulk operations"],
    "openapi_extra": {
        "parameters": WRITE_HEADERS,
        **body(
            {
                "title": "BulkUpdate",
                "type": "object",
                "additionalProperties": False,
                "description": "Whom: candidate_ids or filter. What: changes, or field and value.",
                "properties": {
                    name: _COMMAND[name]
                    for name in ("candidate_ids", "filter", "changes", "expected_versions")
                }
                | {
                    "field": {"type": "string", "enum": list(BulkChanges.__annotations__)},
                    "value": {"description": "As the field's in `changes`."},
                    "on_conflict": _COMMAND["on_conflict"],
                    "dry_run": _COMMAND["dry_run"],
                },
            },
            media_types=(JSON,),
            examples={
                "one field": {"candidate_ids": _IDS, "field": "status", "value": "rejected"},
                "several fields": {
                    "candidate_ids": _IDS,
                    "changes": {"pipeline_stage": "tech.onsite", "tags": {"add": ["2026"]}},
                },
                "by filter, to see what it would do": {
                    "filter": {"status": "new", "pipeline_stage": "tech"},
                    "changes": {"status": "screening"},
                    "dry_run": True,
                },
            },
        ),
        **needs("candidates:write"),
    },
}
LIST: dict[str, Any] = {
    "response_model": OperationsPage,
    "responses": {
        200: answer(
            "A page of operations, newest first",
            {"items": [examples.OPERATION], "next_cursor": "kV3q…"},
            headers=LINK,
        ),
        **problems(*READ_ERRORS),
    },
    "tags": ["bulk operations"],
    "openapi_extra": {
        "parameters": [
            parameter(
                "status",
                "query",
                {"type": "string", "enum": ["running", "paused", "completed", "cancelled"]},
            ),
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
            _CURSOR,
        ],
        **needs(*LOOKING_BACK),
    },
}
OPERATION: dict[str, Any] = {
    "response_model": OperationDocument,
    "responses": {
        200: answer("The operation as it is now", examples.OPERATION),
        202: answer(
            "The lane has not come to its command yet",
            examples.OPERATION_PENDING,
            model=PendingOperationDocument,
            headers=_RETRY_AFTER,
        ),
        **problems(*READ_ERRORS, HTTPStatus.NOT_FOUND),
    },
    "tags": ["bulk operations"],
    "openapi_extra": {
        "parameters": [
            _ID,
            *(
                parameter(name, "query", {"type": "string"}, "As `Location` of a 202 has it.")
                for name in BEGINNING
            ),
        ],
        **needs(*LOOKING_BACK),
    },
}
ITEMS: dict[str, Any] = {
    "response_model": OperationItemsPage,
    "responses": {
        200: answer(
            "A page of items, in the operation's order",
            {"items": [examples.ITEM], "next_cursor": None},
            headers=LINK,
        ),
        **problems(*READ_ERRORS, HTTPStatus.NOT_FOUND),
    },
    "tags": ["bulk operations"],
    "openapi_extra": {
        "parameters": [
            _ID,
            parameter("outcome", "query", {"type": "string", "enum": [*ITEM_OUTCOMES, "pending"]}),
            parameter(
                "limit",
                "query",
                {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": ITEMS_PAGE_MAX,
                    "default": PAGE_ROWS,
                },
            ),
            _CURSOR,
        ],
        **needs(*LOOKING_BACK),
    },
}
EVENTS: dict[str, Any] = {
    "status_code": 200,
    "response_class": EventStream,
    "responses": {
        200: {
            "description": "`progress` and at the end `completed`, each with the operation as data",
            "content": {
                EventStream.media_type: {
                    "schema": {"type": "string"},
                    "example": "id: 2026-11-25T09:30:02.400000Z\nevent: progress\ndata: {…}\n\n",
                }
            },
        },
        204: {"description": "`Last-Event-ID` is that of `completed`: nothing more will come"},
        **problems(*READ_ERRORS, HTTPStatus.NOT_FOUND),
    },
    "tags": ["bulk operations"],
    "openapi_extra": {
        "parameters": [
            _ID,
            parameter(
                "Last-Event-ID", "header", {"type": "string"}, "Of the last event that was seen.",
                example="2026-11-25T09:30:02.400000Z",
            ),
        ],
        **needs(*LOOKING_BACK),
    },
}  # fmt: skip


def _steer(description: str, **responses: dict[str, Any]) -> dict[str, Any]:
    return {
        "description": description,
        "response_model": OperationDocument,
        "responses": {
            200: answer(
                "The operation as it is now", examples.OPERATION, headers=WRITE_ANSWER_HEADERS
            ),
            202: responses.get("accepted", PENDING[202]),
            **problems(*WRITE_ERRORS, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
        },
        "tags": ["bulk operations"],
        "openapi_extra": {
            "parameters": [_ID, *WRITE_HEADERS],
            **needs("operations:manage"),
        },
    }


STEER: dict[str, dict[str, Any]] = {
    "pause": _steer("Hold an operation; what was done stays done."),
    "resume": _steer("Let a paused operation go on."),
    "cancel": _steer("End an operation; what was done stays done and is counted."),
    "retry-failed": _steer(
        "Try the failed items of an ended operation again, as a new one with fresh versions.",
        accepted=answer(
            "The new operation; or the command was not settled in time",
            examples.OPERATION,
            model=OperationDocument | CommandDocument,
            headers=_LOCATION,
        ),
    ),
}
