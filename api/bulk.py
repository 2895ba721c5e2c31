"""`POST /candidates/bulk-update`: the same changes to many candidates by one command.

Up to `BULK_INLINE_ITEMS_MAX` candidates the answer accounts for each of them; more, or a filter,
become an operation that goes on in the background.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import JSON, json_object
from api.candidates import BareRoute, refuse_parameters
from api.gate import Admission
from api.limits import BULK_BODY_BYTES_MAX, RETRY_AFTER_S
from api.operation_docs import BULK_UPDATE
from api.problems import invalid_request
from api.writing import Writes, Written
from domain import commands
from domain.candidate import BulkChanges
from domain.field_errors import FieldError, pointer
from domain.identity import operation_id_of
from domain.limits import BULK_INLINE_ITEMS_MAX

_OF_THE_COMMAND = (
    "candidate_ids",
    "filter",
    "changes",
    "expected_versions",
    "on_conflict",
    "dry_run",
)
_FIELDS = tuple(BulkChanges.__annotations__)


def add_bulk_routes(
    app: FastAPI, *, base_path: str, writes: Writes, admit_writer: Admission
) -> None:
    """The one. `admit_writer` lets in who may write."""

    async def bulk_update_candidates(request: Request) -> Response:
        """Change many candidates: those of `candidate_ids` or those that a `filter` matches.

        Each is decided by itself: one that is missing or has moved on does not hold up the others.
        """
        asked = writes.ask(request, await admit_writer(request))
        refuse_parameters(request)
        body = await json_object(request, bytes_max=BULK_BODY_BYTES_MAX)
        data, places = _command(body)
        operation_id = operation_id_of(asked.identity.key)
        written = await writes.write(asked, commands.BULK_UPDATE, data, places)
        if written.settled is None:
            if _goes_on_in_background(data):
                location = writes.operation_location(written, operation_id)
            else:
                location = writes.location(written)
            return _taken_on(operation_id, written, location)
        told = orjson.loads(written.settled.details or b"{}")
        if written.settled.outcome == "accepted":
            location = f"{base_path}/bulk-operations/{operation_id}"
            return _taken_on(operation_id, written, location, **told)
        return _done(operation_id, written, told, dry_run=data.get("dry_run") is True)

    app.router.add_api_route(
        f"{base_path}/candidates/bulk-update",
        bulk_update_candidates,
        methods=["POST"],
        route_class_override=BareRoute,
        **BULK_UPDATE,
    )


def _command(body: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The command's data, and where in the body its parts stand.

    `field` and `value` are another way to write `changes` of one field.
    """
    simple = "field" in body or "value" in body
    known = {*_OF_THE_COMMAND, "field", "value"} - ({"changes"} if simple else set())
    errors = [
        FieldError(pointer((name,)), "unknown_field", "The field is not known here.")
        for name in body
        if name not in known
    ]
    data = {name: body[name] for name in _OF_THE_COMMAND if name in body}
    if not simple:
        if errors:
            raise invalid_request(*errors)
        return data, {}
    field = body.get("field")
    if not isinstance(field, str) or field not in _FIELDS:
        errors.append(
            FieldError("/field", "not_one_of", f"One of {', '.join(_FIELDS)} is required.")
        )
    if "value" not in body:
        errors.append(FieldError("/value", "missing", "The field is required."))
    if errors:
        raise invalid_request(*errors)
    return data | {"changes": {field: body["value"]}}, {f"/changes/{field}": "/value"}


def _goes_on_in_background(data: Mapping[str, Any]) -> bool:
    """Of valid data: repeats count once, whatever their case."""
    if "candidate_ids" not in data:
        return True
    return len({each.lower() for each in data["candidate_ids"]}) > BULK_INLINE_ITEMS_MAX


def _taken_on(operation_id: str, written: Written, location: str, **told: Any) -> Response:
    """202: nothing is known of any candidate yet."""
    document = {
        "success": True,
        "updated_count": 0,
        "failed_ids": [],
        "operation_id": operation_id,
        **told,
        "status": "pending",
    }
    headers = {
        "location": location,
        "retry-after": str(RETRY_AFTER_S),
        **written.asked.headers,
    }
    return Response(orjson.dumps(document), HTTPStatus.ACCEPTED, headers, media_type=JSON)


def _done(
    operation_id: str, written: Written, told: Mapping[str, Any], *, dry_run: bool
) -> Response:
    """200: what became of each candidate. A success is that none of them failed."""
    failed = told.get("failed", [])
    counts = told.get("counts", {})
    document = {
        "success": not failed,
        "updated_count": 0 if dry_run else counts.get("applied", 0),
        "failed_ids": [each["candidate_id"] for each in failed],
        "operation_id": operation_id,
        **told,
        "status": "completed",
    }
    return Response(orjson.dumps(document), HTTPStatus.OK, written.asked.headers, media_type=JSON)
