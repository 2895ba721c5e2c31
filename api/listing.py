"""`GET /candidates`: pages of candidates, filtered, sorted, by cursor.

A cursor holds a place in the order and opens only for the organization, the filter and the order
it was made for.
"""

import asyncio
from http import HTTPStatus

import orjson
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from api.candidates import BareRoute
from api.filters import read_listing
from api.limits import LISTS_MAX
from api.list_queries import Page, read_page
from api.paging import CURSOR, ReadTools, next_link
from api.read_docs import LIST


def add_list_routes(app: FastAPI, *, base_path: str, tools: ReadTools) -> None:
    """The list of candidates."""
    database, cursors, admit = tools
    path = f"{base_path}/candidates"
    turns = asyncio.Semaphore(LISTS_MAX)

    async def list_candidates(request: Request) -> Response:
        """Candidates by filter, sorted, in pages.

        A page may be shorter than `limit`, even empty, and yet have a `next_cursor`: a page looks
        at 10,000 candidates at most. Only a `next_cursor` of null is the end. A candidate that is
        not changed during the walk is met exactly once.
        """
        principal = await admit(request)
        listing = read_listing(request)
        bound_to = ("candidates", principal.organization_id, listing.fingerprint)
        after = None
        if listing.cursor is not None:
            after = cursors.open(listing.cursor, *bound_to, where=CURSOR)
        async with turns:
            page = await read_page(database, principal.organization_id, listing, after)
        cursor = None if page.next_place is None else cursors.seal(page.next_place, *bound_to)
        return _answer(request, path, page, cursor)

    app.router.add_api_route(path, list_candidates, route_class_override=BareRoute, **LIST)


def _answer(request: Request, path: str, page: Page, cursor: str | None) -> Response:
    headers = {} if cursor is None else {"link": next_link(request, path, cursor)}
    body = orjson.dumps({"items": page.items, "next_cursor": cursor})
    return Response(body, HTTPStatus.OK, headers, media_type="application/json")
