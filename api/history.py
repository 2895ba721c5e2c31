"""`GET /candidates/{id}/history`: the versions of one candidate, newest first, by cursor."""

from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.candidates import BareRoute, candidate_id_of, not_found
from api.journal_queries import read_history
from api.paging import CURSOR, ReadTools, next_link, read_page_query
from api.read_docs import HISTORY
from domain.limits import NUMBER_MAX


def add_history_routes(app: FastAPI, *, base_path: str, tools: ReadTools) -> None:
    """The history of a candidate."""
    database, cursors, admit = tools

    async def get_candidate_history(request: Request) -> Response:
        """The candidate's versions, newest first, as far back as the journal is kept."""
        principal = await admit(request)
        query = read_page_query(request)
        candidate_id = candidate_id_of(request)
        bound_to = ("history", principal.organization_id, candidate_id)
        before = NUMBER_MAX
        if query.cursor is not None:
            before = cursors.open(query.cursor, *bound_to, where=CURSOR)
        steps = await read_history(
            database,
            principal.organization_id,
            candidate_id,
            before=before,
            limit=query.limit + 1,
        )
        if steps is None:
            raise not_found()
        cursor = None
        if len(steps) > query.limit:
            steps = steps[: query.limit]
            cursor = cursors.seal(steps[-1]["version"], *bound_to)
        path = f"{base_path}/candidates/{candidate_id}/history"
        headers = {} if cursor is None else {"link": next_link(request, path, cursor)}
        body = orjson.dumps({"items": steps, "next_cursor": cursor})
        return Response(body, HTTPStatus.OK, headers, media_type="application/json")

    app.router.add_api_route(
        f"{base_path}/candidates/{{candidate_id}}/history",
        get_candidate_history,
        route_class_override=BareRoute,
        **HISTORY,
    )
