"""`POST /bulk-operations/{id}/pause` and so on: commands that steer an operation.

They go through the lane like any other command, so they are in order with the work they steer.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.candidates import BareRoute, refuse_parameters
from api.gate import Admission
from api.operation_docs import STEER
from api.operation_reads import OperationKey
from api.operations import Operations, found, operation_id_in, operation_json
from api.writing import Writes, Written
from domain import commands

Endpoint = Callable[[Request], Awaitable[Response]]

ACTIONS = {
    "pause": "pause",
    "resume": "resume",
    "cancel": "cancel",
    "retry-failed": "retry_failed",
}


def add_steering_routes(
    app: FastAPI,
    *,
    base_path: str,
    writes: Writes,
    operations: Operations,
    admit: Admission,
) -> None:
    """One for each action. `admit` lets in who may steer."""

    def steering(path_name: str, action: str) -> Endpoint:
        async def steer(request: Request) -> Response:
            asked = writes.ask(request, await admit(request))
            refuse_parameters(request)
            key = asked.principal.organization_id, operation_id_in(request)
            await found(operations, key)
            data = {"operation_id": key[1], "action": action}
            written = await writes.write(asked, commands.BULK_CONTROL, data, {})
            if written.settled is None:
                return writes.pending(written)
            return await _steered(written, key)

        steer.__name__ = f"{path_name.replace('-', '_')}_bulk_operation"
        steer.__doc__ = STEER[path_name]["description"]
        return steer

    async def _steered(written: Written, key: OperationKey) -> Response:
        """The operation as it is now; a retry's is a new one."""
        row = written.settled
        if row is not None and row.outcome == "accepted" and row.operation_id is not None:
            child = await operations.get((key[0], row.operation_id))
            headers = {"location": f"{base_path}/bulk-operations/{row.operation_id}"}
            return operation_json(child or {}, HTTPStatus.ACCEPTED, headers | written.asked.headers)
        return operation_json(await found(operations, key), HTTPStatus.OK, written.asked.headers)

    for name, action in ACTIONS.items():
        app.router.add_api_route(
            f"{base_path}/bulk-operations/{{operation_id}}/{name}",
            steering(name, action),
            methods=["POST"],
            route_class_override=BareRoute,
            **STEER[name],
        )
