"""`GET /candidates/{id}`: one candidate as it is now, or as it was.

The busiest route by far: it takes the bare request, which halves the cost of an answer.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from api.coalesce import Coalesced
from api.gate import Admission
from api.headers import entity_tag, if_match, none_match
from api.problems import Problem, invalid_request
from api.queries import CandidateKey
from api.read_docs import GET_CANDIDATE
from domain.candidate import CandidateState
from domain.field_errors import FieldError, pointer

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


Past = Callable[[Request, CandidateKey], Awaitable[CandidateState | None]]


class BareRoute(APIRoute):
    """Documented as any other, served by Starlette alone: its endpoint takes the request."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(endpoint)


def add_candidate_routes(
    app: FastAPI,
    *,
    base_path: str,
    candidates: Coalesced[CandidateKey, CandidateState],
    past: Past,
    admit: Admission,
    admit_auditor: Admission,
) -> None:
    """One candidate. `past` answers a request that has parameters.

    `admit` lets in who may read what is, `admit_auditor` who may read what was.
    """

    async def get_candidate(request: Request) -> Response:
        """One candidate, with its version as ETag; as it was, at `version` or at `as_of`."""
        principal = await (admit_auditor if request.query_params else admit)(request)
        key = principal.organization_id, candidate_id_of(request)
        state = await (past(request, key) if request.query_params else candidates.get(key))
        if state is None:
            raise not_found()
        return _conditional(request, state)

    app.router.add_api_route(
        f"{base_path}/candidates/{{candidate_id}}",
        get_candidate,
        route_class_override=BareRoute,
        **GET_CANDIDATE,
    )


def not_found() -> Problem:
    """404, whether another organization has such a candidate or nobody."""
    return Problem(HTTPStatus.NOT_FOUND, "not_found", "Candidate not found.")


def _conditional(request: Request, state: CandidateState) -> Response:
    """The candidate, or what the client's conditions make of it (RFC 9110 13.2.2)."""
    tag = entity_tag(state["version"])
    demanded = request.headers.getlist("if-match")
    if demanded and not if_match(demanded, tag):
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "version_conflict",
            "The candidate is at another version.",
            headers={"etag": tag},
        )
    if not none_match(request.headers.getlist("if-none-match"), tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": tag})
    return Response(orjson.dumps(state), headers={"etag": tag}, media_type="application/json")


def refuse_parameters(
    request: Request, *, known: Sequence[str] = (), repeatable: Sequence[str] = ()
) -> None:
    """400 for a query parameter that is not known here, or stands there twice and may not."""
    if not request.query_params:
        return
    names = [name for name, _ in request.query_params.multi_items()]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise invalid_request(
            *(
                FieldError(
                    pointer(("query", name)), "unknown_field", "The parameter is not known here."
                )
                for name in dict.fromkeys(unknown)
            )
        )
    once = [name for name in known if name not in repeatable]
    if twice := [name for name in once if names.count(name) > 1]:
        raise invalid_request(
            *(FieldError(pointer(("query", n)), "too_long", "One value is allowed.") for n in twice)
        )


def candidate_id_of(request: Request) -> str:
    """The canonical id in the path, or 400."""
    return uuid_in_path(request, "candidate_id")


def uuid_in_path(request: Request, name: str) -> str:
    """The canonical UUID that stands for `name` in the path, or 400."""
    text: str = request.path_params[name]
    if _UUID.fullmatch(text) is None:
        raise invalid_request(
            FieldError(pointer(("path", name)), "malformed", "A UUID is required.")
        )
    return text.lower()
