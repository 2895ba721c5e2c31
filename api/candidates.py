"""`GET /candidates/{id}`: one candidate as it is now.

The busiest route by far: it takes the bare request, which halves the cost of an answer.
"""

import re
from collections.abc import Callable, Sequence
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
from api.headers import entity_tag, none_match
from api.openapi import UUID_SCHEMA, header, needs, problems
from api.problems import Problem, invalid_request
from api.queries import CandidateKey
from domain.candidate import CandidateState
from domain.field_errors import FieldError, pointer

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


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
    admit: Admission,
) -> None:
    """Everything below `/candidates`. `admit` lets in who may read."""

    async def get_candidate(request: Request) -> Response:
        """One candidate, with its version as ETag."""
        principal = await admit(request)
        refuse_parameters(request)
        state = await candidates.get((principal.organization_id, candidate_id_of(request)))
        if state is None:
            raise Problem(HTTPStatus.NOT_FOUND, "not_found", "Candidate not found.")
        tag = entity_tag(state["version"])
        if not none_match(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": tag})
        return Response(orjson.dumps(state), headers={"etag": tag}, media_type="application/json")

    app.router.add_api_route(
        f"{base_path}/candidates/{{candidate_id}}",
        get_candidate,
        route_class_override=BareRoute,
        response_model=CandidateState,
        responses={
            200: {"headers": {"ETag": header("The version, quoted", example='"7"')}},
            304: {"description": "Still the version that the client has"},
            **problems(
                HTTPStatus.BAD_REQUEST,
                HTTPStatus.UNAUTHORIZED,
                HTTPStatus.FORBIDDEN,
                HTTPStatus.NOT_FOUND,
                HTTPStatus.SERVICE_UNAVAILABLE,
            ),
        },
        tags=["candidates"],
        openapi_extra={
            "parameters": [
                {"name": "candidate_id", "in": "path", "required": True, "schema": UUID_SCHEMA},
                {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            ],
            **needs("candidates:read"),
        },
    )


def refuse_parameters(request: Request, *, known: Sequence[str] = ()) -> None:
    """400 for a query parameter that is not known here, or stands there twice."""
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
    if twice := [name for name in known if names.count(name) > 1]:
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
