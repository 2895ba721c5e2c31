"""`GET /dead-letters` and `POST /dead-letters/{id}/redrive`: the queue of what no result answers.

For operators: dead letters belong to no tenant. What a record holds is never in an answer.
"""

import re
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import get_args
from urllib.parse import urlencode

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.bodies import JSON
from api.candidates import BareRoute, refuse_parameters
from api.dead_letter_docs import LIST, REDRIVE
from api.gate import Admission
from api.headers import wait_preferred_s
from api.limits import PAGE_ITEMS, PAGE_ITEMS_MAX, WRITE_WAIT_S
from api.ports import (
    DeadLetterDesk,
    DeadLettersWanted,
    DeskAway,
    LetterRefused,
    LetterUnknown,
    QueuePlace,
)
from api.problems import Problem, invalid_request, unavailable
from contract.dead_letters import DeadLetterId
from domain.field_errors import ErrorCode, FieldError
from domain.outcomes import DeadLetterCode

_PARAMETERS = (
    "error_code", "since", "until", "organization_id", "lane", "redriven", "limit", "cursor",
)  # fmt: skip
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OFFSET = re.compile(r"(Z|[+-][0-9]{2}:[0-9]{2})$")
_LANE = re.compile(r"[0-9]{1,5}", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def add_dead_letter_routes(
    app: FastAPI,
    *,
    base_path: str,
    desk: DeadLetterDesk,
    admit: Admission,
    admit_redrive: Admission,
) -> None:
    """Both. The admissions let in who may look, and who may send."""

    async def list_dead_letters(request: Request) -> Response:
        """The queue, oldest first: what no result could answer, and what became of it."""
        await admit(request)
        wanted = _wanted(request)
        try:
            page = await desk.page(wanted)
        except DeskAway as away:
            raise unavailable("The database is away.") from away
        cursor = _cursor(page[-1][0]) if len(page) == wanted.limit else None
        headers = {}
        if cursor is not None:
            kept = [(k, v) for k, v in request.query_params.multi_items() if k != "cursor"]
            query = urlencode([*kept, ("cursor", cursor)])
            headers["link"] = f'<{request.url.path}?{query}>; rel="next"'
        document = {"items": [letter for _, letter in page], "next_cursor": cursor}
        return Response(orjson.dumps(document), headers=headers, media_type=JSON)

    async def redrive_dead_letter(request: Request) -> Response:
        """Send one letter's record to the commands topic again, and tell what became of it.

        A letter that was redriven before, or died of a redrive, needs `again=true`.
        """
        principal = await admit_redrive(request)
        refuse_parameters(request, known=("again",))
        letter_id = _letter_id(request)
        again = _boolean(request, "again") or False
        preferred = wait_preferred_s(request.headers.getlist("prefer"))
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


def _wanted(request: Request) -> DeadLettersWanted:
    refuse_parameters(request, known=_PARAMETERS)
    query = request.query_params
    codes = query.getlist("error_code")
    if not set(codes) <= set(get_args(DeadLetterCode)):
        raise _bad("error_code", "not_one_of", "There is no such error code.")
    organization_id = query.get("organization_id")
    if organization_id is not None and _UUID.fullmatch(organization_id) is None:
        raise _bad("organization_id", "malformed", "A UUID is required.")
    lane, limit = query.get("lane"), query.get("limit", str(PAGE_ITEMS))
    if lane is not None and _LANE.fullmatch(lane) is None:
        raise _bad("lane", "malformed", "The number of a lane is required.")
    if _LANE.fullmatch(limit) is None or not 1 <= int(limit) <= PAGE_ITEMS_MAX:
        raise _bad("limit", "out_of_range", f"A number from 1 to {PAGE_ITEMS_MAX} is required.")
    return DeadLettersWanted(
        error_codes=tuple(codes) or None,
        since=_moment(request, "since"),
        until=_moment(request, "until"),
        organization_id=organization_id and organization_id.lower(),
        lane=None if lane is None else int(lane),
        redriven=_boolean(request, "redriven"),
        after=_place(query.get("cursor")),
        limit=int(limit),
    )


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(_with_offset(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(name, "malformed", "A time with its offset is required (RFC 3339).") from None


def _with_offset(text: str) -> str:
    """Without one it would be the server's local time: not a time at all."""
    return text if _OFFSET.search(text) else ""


def _boolean(request: Request, name: str) -> bool | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if text not in _BOOLEANS:
        raise _bad(name, "not_one_of", "Either true or false is required.")
    return _BOOLEANS[text]


def _letter_id(request: Request) -> DeadLetterId:
    try:
        return DeadLetterId.parse(request.path_params["dead_letter_id"])
    except ValueError:
        raise invalid_request(
            FieldError("/path/dead_letter_id", "malformed", "<lane>-<sequence> is required.")
        ) from None


def _cursor(place: QueuePlace) -> str:
    return f"{(place.recorded_at - _EPOCH) // timedelta(microseconds=1)}.{place.id}"


def _place(cursor: str | None) -> QueuePlace | None:
    """It names a place, not a letter, and shows nothing: a made-up one does no harm."""
    if cursor is None:
        return None
    microseconds, _, letter_id = cursor.partition(".")
    try:
        recorded_at = _EPOCH + timedelta(microseconds=int(microseconds))
        return QueuePlace(recorded_at, DeadLetterId.parse(letter_id))
    except (ValueError, OverflowError):
        raise _bad("cursor", "malformed", "It is not a cursor of ours.") from None


def _bad(name: str, code: ErrorCode, detail: str) -> Problem:
    return invalid_request(FieldError(f"/query/{name}", code, detail))
