"""`GET /commands/{id}`: how a command was settled, or how it stands.

The body of a settled command is the data of its result event, built by the same code.
"""

import re
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Header, Path, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import Response

from api import examples
from api.auth import Principal
from api.gate import LOOKING_BACK, Admission
from api.headers import wait_preferred_s
from api.limits import POSITION_LANE_MAX, POSITION_OFFSET_MAX, RETRY_AFTER_S
from api.openapi import READ_ERRORS, answer, header, needs, problems
from api.problems import Problem, invalid_request
from api.queries import CommandKey, CommandStatus, Position
from api.schemas import CommandDocument
from api.waiting import CommandWaits
from contract.events import EventBuilder
from contract.journal import JournalRow, timestamp_text
from domain.field_errors import FieldError
from domain.limits import COMMAND_ID_CHARACTERS_MAX

POSITION = r"^[0-9]{1,10}:[0-9]{1,19}$"
Identifier = Annotated[
    str,
    StringConstraints(min_length=1, max_length=COMMAND_ID_CHARACTERS_MAX, pattern=r"^[^\x00]*$"),
]


class CommandQuery(BaseModel):
    """What narrows the question down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Identifier | None = None
    position: Annotated[str, StringConstraints(pattern=POSITION)] | None = None


def add_command_routes(
    app: FastAPI,
    *,
    base_path: str,
    waits: CommandWaits,
    builder: EventBuilder,
    admit: Admission,
) -> None:
    """Everything below `/commands`. `admit` lets in who may read."""

    @app.get(
        f"{base_path}/commands/{{command_id:path}}",
        response_model=CommandDocument,
        responses={
            200: answer(
                "The command was settled, or is a dead letter",
                examples.SETTLED,
                headers={"Preference-Applied": header("RFC 7240", example="wait=10")},
            ),
            202: answer(
                "The lane has not come to it yet",
                examples.PENDING,
                model=CommandDocument,
                headers={"Retry-After": header("Seconds", example="1")},
            ),
            **problems(*READ_ERRORS, HTTPStatus.NOT_FOUND),
        },
        tags=["commands"],
        openapi_extra=needs(*LOOKING_BACK),
    )
    async def get_command(
        principal: Annotated[Principal, Depends(admit)],
        command_id: Annotated[Identifier, Path()],
        query: Annotated[CommandQuery, Query()],
        prefer: Annotated[list[str] | None, Header()] = None,
    ) -> Response:
        """How the command was settled, or how it stands; `Prefer: wait=S` waits for the end.

        `position` is the token that `Location` carries after a write: with it, a command whose
        turn has not come is `pending` and not unknown.
        """
        position = None if query.position is None else position_of(query.position)
        key = CommandKey(principal.organization_id, command_id, query.source, position)
        wait_s = wait_preferred_s(prefer or ())
        headers = {} if wait_s is None else {"preference-applied": f"wait={wait_s}"}
        status = await waits.status(key, wait_s=wait_s or 0)
        if status.ended is not None:
            return _json(_ended(builder, key, status.ended), HTTPStatus.OK, headers)
        if status.lag is not None:
            headers["retry-after"] = str(RETRY_AFTER_S)
            return _json(_pending(key, status), HTTPStatus.ACCEPTED, headers)
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", "Command not found.", headers=headers)


def _ended(builder: EventBuilder, key: CommandKey, row: JournalRow) -> bytes | None:
    if row.kind == "command":
        return builder.result(row).value
    told = orjson.loads(row.details or b"{}")
    return orjson.dumps(
        {
            "command_id": key.command_id,
            "organization_id": key.organization_id,
            "outcome": "dead_lettered",
            "error_code": told.get("error_code"),
            "detail": told.get("error_detail"),
            "sequence": row.result_sequence,
            "recorded_at": timestamp_text(row.recorded_at),
        }
    )


def _pending(key: CommandKey, status: CommandStatus) -> bytes:
    return orjson.dumps(
        {
            "command_id": key.command_id,
            "organization_id": key.organization_id,
            "outcome": "pending",
            "lag": status.lag,
        }
    )


def position_of(token: str) -> Position:
    """What `?position=` says, or 400."""
    if re.fullmatch(POSITION, token):
        lane, offset = map(int, token.split(":"))
        if lane <= POSITION_LANE_MAX and offset <= POSITION_OFFSET_MAX:
            return Position(lane, offset)
    raise invalid_request(
        FieldError("/query/position", "malformed", "The token is not one of ours.")
    )


def _json(body: bytes | None, status: HTTPStatus, headers: dict[str, Any]) -> Response:
    return Response(body, status, headers, media_type="application/json")
