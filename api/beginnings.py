"""Bulk operations that were asked for and have not begun, as their address tells them.

The address that a 202 gives names the command beside the operation. Until the lane has come to
that command the operation is pending; a command that was refused will never begin it, and says
why. An address whose command is not the operation's is that of nothing.
"""

from http import HTTPStatus

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from api.commands import Identifier, position_of
from api.operation_reads import OperationKey
from api.problems import Problem, invalid_request
from api.queries import CommandKey
from api.refusals import refusal
from api.waiting import CommandWaits
from domain.field_errors import FieldError, pointer
from domain.identity import Identity, operation_id_of

BEGINNING = ("command_id", "source", "position")
"""The parameters of such an address: the first two together, or none."""

_IDENTIFIER = TypeAdapter[str](Identifier)


def command_that_begins(request: Request, key: OperationKey) -> CommandKey | None:
    """The command that this address names, if the operation is the one that it begins.

    Raises:
        Problem: 400, the parameters are not as our addresses have them.
    """
    asked = request.query_params
    if not asked:
        return None
    command_id, source = _name(request, "command_id"), _name(request, "source")
    position = position_of(asked["position"]) if "position" in asked else None
    if operation_id_of(Identity(key[0], source, command_id).key) != key[1]:
        return None
    return CommandKey(key[0], command_id, source, position)


async def begins_later(waits: CommandWaits, command: CommandKey) -> int | None:
    """How many records the lane has yet to settle until then; None: it has, or nothing tells.

    Raises:
        Problem: 404, the command was refused or is a dead letter; `code` and `errors` are its own.
    """
    status = await waits.status(command, wait_s=0)
    refused = status.ended and refusal(status.ended, {})
    if refused:
        raise Problem(
            HTTPStatus.NOT_FOUND,
            refused.code,
            f"The operation was not taken on. {refused.detail}",
            errors=refused.errors,
            extension=refused.extension,
        )
    return status.lag


def _name(request: Request, parameter: str) -> str:
    try:
        return _IDENTIFIER.validate_python(request.query_params.get(parameter, ""))
    except ValidationError:
        raise invalid_request(
            FieldError(
                pointer(("query", parameter)), "malformed", "The parameter is not one of ours."
            )
        ) from None
