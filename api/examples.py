"""What answers look like, for the OpenAPI document."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from api.problems import Problem, internal_error, invalid_request, unavailable
from domain.field_errors import FieldError

_ORGANIZATION = "0193b1c0-0000-7000-8000-00000000000a"
_CANDIDATES = [f"0193b1c0-0000-7000-8000-0000000000c{n}" for n in (1, 2)]
_OPERATION = "0193b1c0-0000-5000-8000-0000000000f1"
_SOURCE = "/gulf-funnel/api/372e73acb7e24302f58e2fc310db26db"

SETTLED: Mapping[str, Any] = {
    "command_id": "order-17",
    "command_source": _SOURCE,
    "command_type": "candidate.update.v1",
    "organization_id": _ORGANIZATION,
    "candidate_id": _CANDIDATES[0],
    "outcome": "applied",
    "version": 7,
    "previous_version": 6,
    "sequence": 1718,
    "settled_at": "2026-11-25T09:30:00.000120Z",
}
PENDING: Mapping[str, Any] = {
    "command_id": "order-17",
    "organization_id": _ORGANIZATION,
    "outcome": "pending",
    "lag": 12,
}
_COUNTS: Mapping[str, int] = {
    "total": 2,
    "applied": 1,
    "unchanged": 0,
    "conflict": 0,
    "not_found": 1,
    "invalid": 0,
    "cancelled": 0,
    "pending": 0,
}
BULK_DECIDED: Mapping[str, Any] = {
    "success": False,
    "updated_count": 1,
    "failed_ids": [_CANDIDATES[1]],
    "operation_id": _OPERATION,
    "counts": _COUNTS,
    "failed": [{"candidate_id": _CANDIDATES[1], "reason": "not_found"}],
    "status": "completed",
}
BULK_TAKEN_ON: Mapping[str, Any] = {
    "success": True,
    "updated_count": 0,
    "failed_ids": [],
    "operation_id": _OPERATION,
    "status": "pending",
}
OPERATION_PENDING: Mapping[str, Any] = {
    "organization_id": _ORGANIZATION,
    "operation_id": _OPERATION,
    "command_id": "order-18",
    "status": "pending",
    "lag": 12,
}
OPERATION: Mapping[str, Any] = {
    "organization_id": _ORGANIZATION,
    "operation_id": _OPERATION,
    "command_id": "order-18",
    "command_source": _SOURCE,
    "actor": "ada",
    "type": "candidate.bulk-update.v1",
    "changes": {"status": "screening"},
    "filter": {"status": "new", "pipeline_stage": "tech"},
    "on_conflict": "reject",
    "dry_run": False,
    "status": "running",
    "created_at": "2026-11-25T09:30:00.000120Z",
    "updated_at": "2026-11-25T09:30:02.400000Z",
    "completed_at": None,
    "counts": dict(_COUNTS) | {"total": 8000, "applied": 1999, "pending": 6000},
    "percentage": 25.0,
    "items_per_second": 833.4,
    "seconds_left": 7.2,
}
ITEM: Mapping[str, Any] = {
    "ordinal": 0,
    "candidate_id": _CANDIDATES[0],
    "outcome": "conflict",
    "current_version": 7,
    "fields": ["status"],
}
DEAD_LETTER: Mapping[str, Any] = {
    "id": "3-1719",
    "recorded_at": "2026-11-25T09:30:00.000120Z",
    "origin": {"partition": 3, "offset": 1801},
    "error_code": "unknown_type",
    "error_detail": "The type is not known.",
    "organization_id": _ORGANIZATION,
    "redrive_of": None,
    "record_bytes": 512,
    "redrives_total": 1,
    "last_redrive": {
        "at": "2026-11-25T10:00:00.000000Z",
        "by": "nora",
        "outcome": "applied",
        "reason": None,
    },
}
REDRIVEN: Mapping[str, Any] = {
    "id": "3-1719",
    "redrive_id": "0193b1c0-0000-7000-8000-0000000000d1",
    "outcome": "applied",
    "ended": "3-1760",
}
REDRIVE_PENDING: Mapping[str, Any] = {
    "id": "3-1719",
    "redrive_id": "0193b1c0-0000-7000-8000-0000000000d1",
    "outcome": "pending",
}
READY: Mapping[str, Any] = {
    "status": "ok",
    "checks": {
        "postgresql": "ok",
        "schema": "ok",
        "lanes": "ok",
        "commands": "ok",
        "kafka": "ok",
    },
}
PROBLEMS: Mapping[HTTPStatus, Problem] = {
    problem.status: problem
    for problem in (
        invalid_request(
            FieldError("/rating", "out_of_range", "A number of at most 5 is required.")
        ),
        Problem(HTTPStatus.UNAUTHORIZED, "unauthenticated", "A bearer token is required."),
        Problem(
            HTTPStatus.FORBIDDEN, "missing_scope", "The token needs the scope candidates:write."
        ),
        Problem(HTTPStatus.NOT_FOUND, "not_found", "Candidate not found."),
        Problem(
            HTTPStatus.METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This resource does not take this method.",
        ),
        Problem(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", "The body did not arrive in time."),
        Problem(
            HTTPStatus.CONFLICT,
            "already_exists",
            "There is a candidate of this id.",
            extension={"current_version": 7},
        ),
        Problem(HTTPStatus.GONE, "no_longer_kept", "The journal does not reach back that far."),
        Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "version_conflict",
            "The candidate is at another version than If-Match says.",
            extension={"current_version": 7, "fields": ["rating"]},
        ),
        Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too_large",
            "The body has more than 262144 bytes.",
        ),
        Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "The body has to be application/json, and not compressed.",
        ),
        Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "id_reused",
            "The Idempotency-Key was used for another request.",
        ),
        Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too_many_requests",
            "The user's allowance of writes is used up.",
        ),
        internal_error(),
        unavailable("Kafka is away."),
    )
}
