"""`/bulk-operations`: operations as resources.

An operation of another organization and one that does not exist are the same 404.
"""

from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.beginnings import BEGINNING, begins_later, command_that_begins
from api.bodies import JSON
from api.candidates import BareRoute, refuse_parameters, uuid_in_path
from api.coalesce import Coalesced
from api.gate import Admission
from api.limits import RETRY_AFTER_S
from api.operation_docs import EVENTS, ITEMS, LIST, OPERATION
from api.operation_reads import Operation, OperationKey
from api.pages_of_operations import OperationPages
from api.problems import Problem
from api.progress import ProgressStreams, told_before
from api.queries import CommandKey
from api.waiting import CommandWaits

Operations = Coalesced[OperationKey, Operation]


def add_operation_routes(
    app: FastAPI,
    *,
    base_path: str,
    operations: Operations,
    pages: OperationPages,
    streams: ProgressStreams,
    waits: CommandWaits,
    admit: Admission,
) -> None:
    """Everything that reads below `/bulk-operations`. `admit` lets in who may."""

    async def list_bulk_operations(request: Request) -> Response:
        """The organization's operations, newest first."""
        return await pages.operations(request, await admit(request))

    async def get_bulk_operation(request: Request) -> Response:
        """One operation: what it does, how far it is, at what rate, and how long it will take."""
        principal = await admit(request)
        refuse_parameters(request, known=BEGINNING)
        key = principal.organization_id, operation_id_in(request)
        command = command_that_begins(request, key)
        operation = await operations.get(key)
        if operation is None and command is not None:
            lag = await begins_later(waits, command)
            if lag is not None:
                return _pending(command, key, lag)
        return operation_json(operation or await found(operations, key))

    async def list_bulk_operation_items(request: Request) -> Response:
        """What became of each candidate of an operation, in its order."""
        principal = await admit(request)
        key = principal.organization_id, operation_id_in(request)
        response = await pages.items(request, key)
        if response is None:
            await found(operations, key)
        return response or operation_json({"items": [], "next_cursor": None})

    async def stream_bulk_operation(request: Request) -> Response:
        """Server-sent events: `progress` whenever the operation is further, then `completed`.

        204 to `Last-Event-ID` of the last one: browsers then stop coming back.
        """
        principal = await admit(request)
        refuse_parameters(request)
        key = principal.organization_id, operation_id_in(request)
        operation = await found(operations, key)
        if operation["completed_at"] is not None and told_before(request, operation):
            return Response(status_code=HTTPStatus.NO_CONTENT)
        return streams.stream(key, operation)

    one = f"{base_path}/bulk-operations/{{operation_id}}"
    for path, endpoint, documented in (
        (f"{base_path}/bulk-operations", list_bulk_operations, LIST),
        (one, get_bulk_operation, OPERATION),
        (f"{one}/items", list_bulk_operation_items, ITEMS),
        (f"{one}/events", stream_bulk_operation, EVENTS),
    ):
        app.router.add_api_route(path, endpoint, route_class_override=BareRoute, **documented)


async def found(operations: Operations, key: OperationKey) -> Operation:
    """The operation, or 404."""
    operation = await operations.get(key)
    if operation is None:
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", "Bulk operation not found.")
    return operation


def _pending(command: CommandKey, key: OperationKey, lag: int) -> Response:
    document = {
        "organization_id": key[0],
        "operation_id": key[1],
        "command_id": command.command_id,
        "status": "pending",
        "lag": lag,
    }
    return operation_json(document, HTTPStatus.ACCEPTED, {"retry-after": str(RETRY_AFTER_S)})


def operation_id_in(request: Request) -> str:
    """The canonical id in the path, or 400."""
    return uuid_in_path(request, "operation_id")


def operation_json(
    document: Any,
    status: HTTPStatus = HTTPStatus.OK,
    headers: dict[str, str] | None = None,
) -> Response:
    """Whatever stands for an operation or several, as an answer."""
    return Response(orjson.dumps(document), status, headers, media_type=JSON)
