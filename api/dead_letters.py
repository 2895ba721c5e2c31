"""`GET /dead-letters` and `POST /dead-letters/{id}/redrive`: the queue of what no result answers.

For operators: dead letters belong to no tenant. What a record holds is never in an answer.
"""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

import orjson
from fastapi import FastAPI
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import JSON
from api.candidates import BareRoute, refuse_parameters
from api.cursors import Cursors
from api.database import Database
from api.dead_letter_docs import LIST, REDRIVE
from api.gate import Admission
from api.headers import wait_preferred_s
from api.instants import Instant
from api.limits import POSITION_LANE_MAX, WRITE_WAIT_S
from api.paging import CURSOR, PageQuery, next_link
from api.ports import (
    DeadLetterDesk,
    DeadLettersWanted,
    DeskAway,
    LetterRefused,
    LetterUnknown,
    QueuePlace,
)
from api.problems import Problem, invalid_request, query_errors, unavailable
from contract.dead_letters import DeadLetterId
from domain.field_errors import FieldError
from domain.outcomes import DeadLetterCode

_BOUND_TO = "dead-letters"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add_dead_letter_routes(
    app: FastAPI,
    *,
    base_path: str,
    database: Database,
    desk: DeadLetterDesk,
    cursors: Cursors,
    admit: Admission,
    admit_redrive: Admission,
) -> None:
    """Both. The admissions let in who may look, and who may send."""

    async def list_dead_letters(request: Request) -> Response:
        """The queue, oldest first: what no result could answer, and what became of it."""
        await admit(request)
        query = _query(request)
        await database.demand_answer()
        try:
            found = await desk.page(_wanted(query, cursors))
        except DeskAway as away:
            raise unavailable("The database is away.") from away
        page = found[: query.limit]
        cursor = _cursor(cursors, page[-1][0]) if len(found) > len(page) else None
        headers = {}
        if cursor is not None:
            headers["link"] = next_link(request, f"{base_path}/dead-letters", cursor)
        document = {"items": [letter for _, letter in page], "next_cursor": cursor}
        return Response(orjson.dumps(document), headers=headers, media_type=JSON)

    async def redrive_dead_letter(request: Request) -> Response:
        """Send one letter's record to the commands topic again, and tell what became of it.

        A letter that was redriven before, or died of a redrive, needs `again=true`.
        """
        principal = await admit_redrive(request)
        letter_id, again = _letter_id(request), _again(request)
        preferred = wait_preferred_s(request.headers.getlist("prefer"))
        await database.demand_answer()
        try:
            ended = await desk.redrive(
                letter_id,
                requested_by=principal.user,
                again=again,
                wait_s=WRITE_WAIT_S if preferred is None else preferred,
            )
        except LetterUnknown:
            raise Problem(
                HTTPStatus.NOT_FOUND, "not_found", "There is no such dead letter."
            ) from None
        except LetterRefused as refused:
            raise Problem(HTTPStatus.CONFLICT, refused.code, refused.detail) from refused
        except DeskAway as away:
            raise unavailable("Kafka or the database is away; it may have been sent.") from away
        pending = ended["outcome"] == "pending"
        headers = {} if preferred is None else {"preference-applied": f"wait={preferred}"}
        return Response(
            orjson.dumps(ended),
            HTTPStatus.ACCEPTED if pending else HTTPStatus.OK,
            headers,
            media_type=JSON,
        )

    app.router.add_api_route(
        f"{base_path}/dead-letters", list_dead_letters, methods=["GET"],
        route_class_override=BareRoute, **LIST,
    )  # fmt: skip
    app.router.add_api_route(
        f"{base_path}/dead-letters/{{dead_letter_id}}/redrive", redrive_dead_letter,
        methods=["POST"], route_class_override=BareRoute, **REDRIVE,
    )  # fmt: skip


class DeadLettersQuery(PageQuery):
    """Which dead letters."""

    error_code: tuple[DeadLetterCode, ...] | None = None
    since: Instant | None = None
    until: Instant | None = None
    organization_id: UUID | None = None
    lane: int | None = Field(None, ge=0, le=POSITION_LANE_MAX)
    redriven: Literal["true", "false"] | None = None


def _query(request: Request) -> DeadLettersQuery:
    known = tuple(DeadLettersQuery.model_fields)
    refuse_parameters(request, known=known, repeatable=("error_code",))
    asked: dict[str, Any] = dict(request.query_params)
    if codes := request.query_params.getlist("error_code"):
        asked["error_code"] = codes
    try:
        return DeadLettersQuery.model_validate(asked)
    except ValidationError as refusal:
        raise invalid_request(*query_errors(refusal)) from None


def _wanted(query: DeadLettersQuery, cursors: Cursors) -> DeadLettersWanted:
    organization_id = query.organization_id
    return DeadLettersWanted(
        error_codes=query.error_code,
        since=query.since,
        until=query.until,
        organization_id=None if organization_id is None else str(organization_id),
        lane=query.lane,
        redriven=None if query.redriven is None else query.redriven == "true",
        after=None if query.cursor is None else _place(cursors, query.cursor),
        limit=query.limit + 1,
    )


def _cursor(cursors: Cursors, place: QueuePlace) -> str:
    microseconds = (place.recorded_at - _EPOCH) // timedelta(microseconds=1)
    return cursors.seal([microseconds, *place.id], _BOUND_TO)


def _place(cursors: Cursors, cursor: str) -> QueuePlace:
    microseconds, lane, sequence = cursors.open(cursor, _BOUND_TO, where=CURSOR)
    recorded_at = _EPOCH + timedelta(microseconds=microseconds)
    return QueuePlace(recorded_at, DeadLetterId(lane, sequence))


def _again(request: Request) -> bool:
    refuse_parameters(request, known=("again",))
    text = request.query_params.get("again", "false")
    if text not in ("true", "false"):
        raise invalid_request(
            FieldError("/query/again", "not_one_of", "Either true or false is required.")
        )
    return text == "true"


def _letter_id(request: Request) -> DeadLetterId:
    try:
        return DeadLetterId.parse(request.path_params["dead_letter_id"])
    except ValueError:
        raise invalid_request(
            FieldError("/path/dead_letter_id", "malformed", "<lane>-<sequence> is required.")
        ) from None
