"""`GET /changes`: the change events of an organization in their order, from a cursor on.

Each is the event that was published, data and attributes; a candidate that was erased since is an
event without data. One lane writes an organization, so its change sequences have no late comers:
whoever goes on from a cursor misses nothing and meets nothing twice.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from api.candidates import BareRoute, refuse_parameters
from api.change_waits import ChangeWaits
from api.coalesce import Coalesced
from api.database import Database
from api.event_stream import HEARTBEAT, MEDIA_TYPE, EventStream, frame
from api.headers import quality, wait_preferred_s
from api.journal_queries import (
    ChangePlace,
    ChangesKey,
    read_changes,
    read_kept_since,
    read_lanes,
    read_latest_changes,
)
from api.limits import CHANGES_PAGE_ROWS, JOURNAL_SURE_DAYS, STREAM_BEAT_S, STREAM_S_MAX
from api.paging import ReadTools, next_link
from api.problems import Problem, invalid_request, query_errors
from api.read_docs import CHANGES
from api.waiting import TooManyWaits
from contract.events import EventBuilder
from contract.journal import JournalRow

NOW = "now"
BEGINNING = ChangePlace(0, datetime(1970, 1, 1, tzinfo=UTC))


class ChangesQuery(BaseModel):
    """After what, and how many."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: str | None = None
    limit: int = Field(CHANGES_PAGE_ROWS, ge=1, le=CHANGES_PAGE_ROWS)


def add_changes_routes(
    app: FastAPI, *, base_path: str, tools: ReadTools, waits: ChangeWaits, builder: EventBuilder
) -> None:
    """The feed."""
    feed = Feed(tools, waits, builder)
    path = f"{base_path}/changes"

    async def get_changes(request: Request) -> Response:
        """What has changed since a cursor, oldest first; without one, all that is still known.

        `Prefer: wait=S` waits for the next change if there is none yet. With
        `Accept: text/event-stream` the answer is a stream that goes on: `Last-Event-ID`, or
        `after`, tells where from. `after=now` skips what has been. `data` is null for candidates
        that were erased.
        """
        organization_id = (await tools.admit(request)).organization_id
        query = _asked(request)
        streaming = _wants_stream(request.headers.getlist("accept"))
        resumed = request.headers.get("last-event-id") if streaming else None
        place = await feed.place(
            organization_id,
            resumed or query.after,
            where="/header/last-event-id" if resumed else "/query/after",
        )
        if streaming:
            return await feed.stream(organization_id, place)
        wait_s = wait_preferred_s(request.headers.getlist("prefer"))
        rows = await feed.rows(organization_id, place, wait_s=wait_s or 0)
        events = [feed.event(organization_id, row) for row in rows[: query.limit]]
        cursor = events[-1]["cursor"] if events else feed.cursor(organization_id, place)
        headers = {"link": next_link(request, path, cursor, parameter="after")}
        if wait_s is not None:
            headers["preference-applied"] = f"wait={wait_s}"
        body = orjson.dumps({"items": events, "next_cursor": cursor})
        return Response(body, HTTPStatus.OK, headers, media_type="application/json")

    app.router.add_api_route(path, get_changes, route_class_override=BareRoute, **CHANGES)


def change_waits(database: Database) -> ChangeWaits:
    """What makes requests wait for changes in this database."""
    return ChangeWaits(partial(read_lanes, database), partial(read_latest_changes, database))


class Feed:
    """The changes of any organization, page by page or as they come."""

    def __init__(self, tools: ReadTools, waits: ChangeWaits, builder: EventBuilder) -> None:
        self._database = tools.database
        self._cursors = tools.cursors
        self._waits = waits
        self._builder = builder
        self._pages = Coalesced(partial(read_changes, tools.database, limit=CHANGES_PAGE_ROWS))

    async def place(self, organization_id: str, after: str | None, *, where: str) -> ChangePlace:
        """Where `after` is: a cursor, `now`, or None for the beginning.

        Raises:
            Problem: 400, it is no cursor of this organization; 410, the journal no longer tells
                all that came after it.
        """
        if after is None:
            return BEGINNING
        if after == NOW:
            newest = await read_latest_changes(self._database, [organization_id])
            return newest.get(organization_id, BEGINNING)
        sequence, instant = self._cursors.open(after, "changes", organization_id, where=where)
        place = ChangePlace(sequence, datetime.fromisoformat(instant))
        await self._demand_kept(place)
        return place

    async def _demand_kept(self, place: ChangePlace) -> None:
        young = datetime.now(UTC) - timedelta(days=JOURNAL_SURE_DAYS)
        if place.sequence == 0 or place.recorded_at > young:
            return
        if place.recorded_at < await read_kept_since(self._database):
            raise Problem(
                HTTPStatus.GONE,
                "no_longer_kept",
                "Changes after this cursor are no longer kept: read the candidates anew.",
            )

    async def rows(
        self, organization_id: str, place: ChangePlace, *, wait_s: float
    ) -> list[JournalRow]:
        """The next changes after a place; waits for them if there are none yet."""
        key = ChangesKey(organization_id, place)
        rows = await self._pages.get(key)
        if not rows and wait_s > 0:
            await self._waits.wait(organization_id, place.sequence, wait_s=wait_s)
            rows = await self._pages.get(key)
        return rows or []

    async def stream(self, organization_id: str, place: ChangePlace) -> EventStream:
        """All changes after a place, as they come; the first are read before it begins."""
        if self._waits.is_full:
            raise TooManyWaits
        rows = await self._pages.get(ChangesKey(organization_id, place)) or []
        return EventStream(self._frames(organization_id, place, rows))

    async def _frames(
        self, organization_id: str, place: ChangePlace, rows: list[JournalRow]
    ) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        ends_at = now() + STREAM_S_MAX
        while True:
            if rows:
                yield b"".join(self._frame(organization_id, row) for row in rows)
                place = _place(rows[-1])
            if self._waits.ending or now() >= ends_at:
                return
            rows = await self.rows(organization_id, place, wait_s=STREAM_BEAT_S)
            if not rows:
                yield HEARTBEAT

    def _frame(self, organization_id: str, row: JournalRow) -> bytes:
        event = self.event(organization_id, row)
        return frame(event=event["type"], event_id=event["cursor"], data=orjson.dumps(event))

    def event(self, organization_id: str, row: JournalRow) -> dict[str, Any]:
        """The event as CloudEvents' JSON format, and its cursor as an extension."""
        record = self._builder.change(row)
        event: dict[str, Any] = {
            name.removeprefix("ce_"): (value or b"").decode()
            for name, value in record.headers
            if name != "content-type"
        }
        event["cursor"] = self.cursor(organization_id, _place(row))
        event["data"] = None
        if row.change is not None:
            event["datacontenttype"] = "application/json"
            event["data"] = orjson.Fragment(row.change)
        return event

    def cursor(self, organization_id: str, place: ChangePlace) -> str:
        """Of a place in the changes of an organization."""
        return self._cursors.seal(
            [place.sequence, place.recorded_at.isoformat()], "changes", organization_id
        )


def _wants_stream(accept: Sequence[str]) -> bool:
    """Whoever names the stream gets it, unless JSON is wanted more."""
    wanted = quality(accept, MEDIA_TYPE)
    return (
        MEDIA_TYPE in ",".join(accept).lower()
        and wanted > 0
        and wanted >= quality(accept, "application/json")
    )


def _place(row: JournalRow) -> ChangePlace:
    return ChangePlace(row.change_sequence or 0, row.recorded_at)


def _asked(request: Request) -> ChangesQuery:
    refuse_parameters(request, known=("after", "limit"))
    try:
        return ChangesQuery.model_validate(dict(request.query_params))
    except ValidationError as refusal:
        raise invalid_request(*query_errors(refusal)) from None
