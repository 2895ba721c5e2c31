"""Pages of bulk operations and of their items, by keyset cursors.

A page begins after a place, not at a number, so what comes and goes meanwhile moves nothing.
"""

from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.auth import Principal
from api.bodies import JSON
from api.candidates import refuse_parameters
from api.cursors import Cursors
from api.database import Database
from api.limits import ITEMS_PAGE_MAX, PAGE_ROWS, PAGE_ROWS_MAX
from api.operation_reads import NewestFirst, OperationKey, list_items, list_operations
from api.paging import next_link
from api.problems import invalid_request
from domain.field_errors import FieldError
from domain.outcomes import ITEM_OUTCOMES

_STATUSES = ("running", "paused", "completed", "cancelled")
_OUTCOMES = (*ITEM_OUTCOMES, "pending")


class OperationPages:
    """Answers lists; `cursors` seal the places, each for its own question only."""

    def __init__(self, database: Database, cursors: Cursors) -> None:
        self._database = database
        self._cursors = cursors

    async def operations(self, request: Request, principal: Principal) -> Response:
        """A page of the organization's operations, newest first."""
        refuse_parameters(request, known=("status", "limit", "cursor"))
        status = _one_of(request, "status", _STATUSES)
        limit = _limit(request, PAGE_ROWS_MAX)
        bound_to = "bulk-operations", principal.organization_id, status or ""
        place = self._opened(request, *bound_to)
        operations, following = await list_operations(
            self._database,
            principal.organization_id,
            status=status,
            after=place and NewestFirst(datetime.fromisoformat(place[0]), place[1]),
            limit=limit,
        )
        cursor = following and self._cursors.seal(
            [following.created_at.isoformat(), following.operation_id], *bound_to
        )
        return _page(request, operations, cursor)

    async def items(self, request: Request, key: OperationKey) -> Response | None:
        """A page of an operation's items; None if it has none after this place."""
        refuse_parameters(request, known=("outcome", "limit", "cursor"))
        outcome = _one_of(request, "outcome", _OUTCOMES)
        limit = _limit(request, ITEMS_PAGE_MAX)
        bound_to = "bulk-operation-items", *key, outcome or ""
        place = self._opened(request, *bound_to)
        items, following = await list_items(
            self._database,
            key,
            outcome=outcome,
            after=-1 if place is None else place[0],
            limit=limit,
        )
        if not items:
            return None
        cursor = None if following is None else self._cursors.seal([following], *bound_to)
        return _page(request, items, cursor)

    def _opened(self, request: Request, *bound_to: str) -> Any:
        cursor = request.query_params.get("cursor")
        if cursor is None:
            return None
        return self._cursors.open(cursor, *bound_to, where="/query/cursor")


def _page(request: Request, items: list[dict[str, Any]], cursor: str | None) -> Response:
    headers = {} if cursor is None else {"link": next_link(request, request.url.path, cursor)}
    document = {"items": items, "next_cursor": cursor}
    return Response(orjson.dumps(document), headers=headers, media_type=JSON)


def _one_of(request: Request, name: str, values: tuple[str, ...]) -> str | None:
    value = request.query_params.get(name)
    if value is not None and value not in values:
        raise invalid_request(
            FieldError(f"/query/{name}", "not_one_of", f"One of {', '.join(values)} is required.")
        )
    return value


def _limit(request: Request, rows_max: int) -> int:
    text = request.query_params.get("limit", str(PAGE_ROWS))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= rows_max):
        raise invalid_request(
            FieldError(
                "/query/limit", "out_of_range", f"A number from 1 to {rows_max} is required."
            )
        )
    return int(text)
