"""The HTTP API as one ASGI application (CONTRACT.md 6).

It reads PostgreSQL, and writes by sending commands. It starts, lives and answers without either
server, and the lifespan owns everything that is open.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api.auth import TokenVerifier
from api.bulk import add_bulk_routes
from api.candidate_writes import add_candidate_write_routes
from api.candidates import add_candidate_routes
from api.change_waits import ChangeWaits
from api.changes import add_changes_routes, change_waits
from api.coalesce import Coalesced
from api.commands import add_command_routes
from api.cursors import Cursors
from api.database import Database, DatabaseAway
from api.dead_letters import add_dead_letter_routes
from api.docs import add_docs_routes
from api.gate import Admission, Scope, admission, write_admission
from api.health import add_health_routes
from api.history import add_history_routes
from api.journal_queries import read_past
from api.limits import CORS_PREFLIGHT_S
from api.listing import add_list_routes
from api.metrics import Metrics
from api.observe import Observe
from api.openapi import DocumentedApi
from api.operation_reads import read_operations
from api.operations import add_operation_routes
from api.pages_of_operations import OperationPages
from api.paging import ReadTools
from api.past import past_of
from api.ports import CommandSender, DeadLetterDesk
from api.problems import (
    Problem,
    answer_away,
    answer_http_exception,
    answer_invalid,
    answer_left,
    answer_problem,
    unavailable,
)
from api.progress import ProgressStreams
from api.queries import read_candidates, read_commands
from api.rates import WriteLimit
from api.steering import add_steering_routes
from api.waiting import CommandWaits, TooManyWaits
from api.writing import Writes
from contract.events import EventBuilder
from contract.topics import Topics
from domain.commands import CommandParser

BASE_PATH = "/api/gulf-funnel"

CORS_REQUEST_HEADERS = [
    "authorization",
    "content-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "last-event-id",
    "prefer",
    "traceparent",
    "tracestate",
    "x-request-id",
]
CORS_ANSWER_HEADERS = [
    "etag",
    "link",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "x-request-id",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiConfig:
    """What the API is told; `schema_version` is the oldest that it works with."""

    database_url: str
    verifier: TokenVerifier
    schema_version: str
    topics: Topics
    event_source: str
    sender: CommandSender
    desk: DeadLetterDesk
    parser: CommandParser
    cursors: Cursors
    write_limit: WriteLimit
    cors_origins: Sequence[str] = ()


def create_app(config: ApiConfig, registry: CollectorRegistry | None = None) -> FastAPI:
    """The application; nothing is opened before its lifespan starts.

    `app.state.waits.end_all()` answers every waiting request, `app.state.changes.end_all()` ends
    every stream too: call both when the process is told to stop, before the server waits for its
    requests. `/metrics` shows all of `registry`.
    """
    database = Database(config.database_url)
    waits = CommandWaits(partial(read_commands, database))
    changes = change_waits(database)
    metrics = Metrics(
        registry or CollectorRegistry(),
        waits=lambda: waits.total + changes.total,
        connections=lambda: database.connections,
        kafka_away=lambda: config.sender.is_away,
    )
    admit = admission(config.verifier, "candidates:read")
    tools = ReadTools(database, config.cursors, admit)
    candidates = Coalesced(partial(read_candidates, database))
    builder = EventBuilder(config.topics, config.event_source)
    writes = Writes(
        sender=config.sender,
        waits=waits,
        parser=config.parser,
        deployment=config.event_source,
        base_path=BASE_PATH,
    )

    def admit_write(scope: Scope) -> Admission:
        return write_admission(
            admission(config.verifier, scope), sender=config.sender, limit=config.write_limit
        )

    app = DocumentedApi(
        title="gulf-funnel",
        version="1",
        summary="Candidates, and how commands to change them were settled.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        telemetry={"metrics": False, "logs": False},
        lifespan=partial(_lifespan, database, waits, changes),
        middleware=[Middleware(Observe, metrics=metrics), *_cors(config.cors_origins)],
        exception_handlers={
            Problem: answer_problem,
            DatabaseAway: answer_away,
            TooManyWaits: _answer_too_many,
            ClientDisconnect: answer_left,
            HTTPException: answer_http_exception,
            RequestValidationError: answer_invalid,
        },
    )
    app.state.waits = waits
    app.state.changes = changes
    app.state.read_tools = tools
    add_candidate_routes(
        app,
        base_path=BASE_PATH,
        candidates=candidates,
        past=past_of(database),
        admit=admit,
    )
    add_list_routes(app, base_path=BASE_PATH, tools=tools)
    add_history_routes(app, base_path=BASE_PATH, tools=tools)
    add_changes_routes(app, base_path=BASE_PATH, tools=tools, waits=changes, builder=builder)
    add_candidate_write_routes(
        app,
        base_path=BASE_PATH,
        writes=writes,
        past=partial(read_past, database, as_of=None),
        builder=builder,
        admit_writer=admit_write("candidates:write"),
        admit_eraser=admit_write("candidates:erase"),
    )
    add_command_routes(
        app,
        base_path=BASE_PATH,
        waits=waits,
        builder=builder,
        admit=admit,
    )
    operations = Coalesced(partial(read_operations, database))
    app.state.progress = ProgressStreams(operations, ending=waits.ending)
    add_bulk_routes(
        app, base_path=BASE_PATH, writes=writes, admit_writer=admit_write("candidates:write")
    )
    add_operation_routes(
        app,
        base_path=BASE_PATH,
        operations=operations,
        pages=OperationPages(database, config.cursors),
        streams=app.state.progress,
        admit=admit,
    )
    add_steering_routes(
        app,
        base_path=BASE_PATH,
        writes=writes,
        operations=operations,
        admit=admit_write("operations:manage"),
    )
    add_dead_letter_routes(
        app,
        base_path=BASE_PATH,
        desk=config.desk,
        admit=admission(config.verifier, "platform:operate"),
        admit_redrive=admit_write("platform:operate"),
    )
    add_health_routes(app, database=database, metrics=metrics, schema_version=config.schema_version)
    add_docs_routes(app)
    return app


def _cors(origins: Sequence[str]) -> list[Middleware]:
    """Off unless somebody names the origins whose pages may ask us."""
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
            max_age=CORS_PREFLIGHT_S,
        )
    ]


@asynccontextmanager
async def _lifespan(
    database: Database, waits: CommandWaits, changes: ChangeWaits, _app: FastAPI
) -> AsyncIterator[None]:
    async with database.opened(), asyncio.TaskGroup() as tasks:
        looking = [tasks.create_task(waits.run()), tasks.create_task(changes.run())]
        try:
            yield
        finally:
            waits.end_all()
            changes.end_all()
            for each in looking:
                each.cancel()


async def _answer_too_many(_request: Request, _exception: TooManyWaits) -> Response:
    return unavailable("Too many requests are waiting.").response()
