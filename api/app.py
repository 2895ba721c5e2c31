"""The HTTP API as one ASGI application (CONTRACT.md 6).

It reads PostgreSQL, and writes by sending commands. It starts, lives and answers without either
server, and the lifespan owns everything that is open.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
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
from api.cors import cors
from api.cursors import Cursors
from api.database import Database, DatabaseAway
from api.dead_letters import add_dead_letter_routes
from api.docs import add_docs_routes
from api.gate import LOOKING_BACK, Admission, Scope, admission, write_admission
from api.health import add_health_routes
from api.history import add_history_routes
from api.journal_queries import read_past
from api.listing import add_list_routes
from api.metrics import Metrics
from api.observe import Observe
from api.openapi import DESCRIPTION, DocumentedApi
from api.operation_reads import read_operations
from api.operations import Operations, add_operation_routes
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
from api.tracing import traced
from api.waiting import CommandWaits, TooManyWaits
from api.writing import Writes
from contract.events import EventBuilder
from contract.spans import OpenSpan, untraced
from contract.topics import Topics
from domain.commands import CommandParser

BASE_PATH = "/api/gulf-funnel"


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
    open_span: OpenSpan = untraced


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What routes are made of."""

    database: Database
    waits: CommandWaits
    changes: ChangeWaits
    tools: ReadTools
    operations: Operations
    streams: ProgressStreams
    builder: EventBuilder
    writes: Writes
    admit: Admission
    admit_auditor: Admission
    admit_write: Callable[[Scope], Admission]


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
    parts = _parts(config, database, waits, changes)
    app = DocumentedApi(
        title="gulf-funnel",
        version="1",
        summary="Candidates, and how commands to change them were settled.",
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        # Its spans carry paths and queries, and with them what people are called.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=partial(_lifespan, database, waits, changes),
        middleware=[
            Middleware(Observe, metrics=metrics),
            *traced(config.open_span, base_path=BASE_PATH),
            *cors(config.cors_origins),
        ],
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
    app.state.read_tools = parts.tools
    app.state.progress = parts.streams
    _add_reads(app, parts)
    _add_writes(app, parts)
    add_dead_letter_routes(
        app,
        base_path=BASE_PATH,
        database=database,
        desk=config.desk,
        cursors=config.cursors,
        admit=admission(config.verifier, "platform:operate"),
        admit_redrive=parts.admit_write("platform:operate"),
    )
    add_health_routes(
        app,
        database=database,
        metrics=metrics,
        schema_version=config.schema_version,
        kafka_away=lambda: config.sender.is_away,
    )
    add_docs_routes(app)
    return app


def _parts(
    config: ApiConfig, database: Database, waits: CommandWaits, changes: ChangeWaits
) -> Parts:
    def admit_write(scope: Scope) -> Admission:
        return write_admission(
            admission(config.verifier, scope), sender=config.sender, limit=config.write_limit
        )

    admit = admission(config.verifier, "candidates:read")
    admit_auditor = admission(config.verifier, *LOOKING_BACK)
    operations = Coalesced(partial(read_operations, database))
    return Parts(
        database=database,
        waits=waits,
        changes=changes,
        tools=ReadTools(database, config.cursors, admit),
        operations=operations,
        streams=ProgressStreams(operations, ending=waits.ending),
        builder=EventBuilder(config.topics, config.event_source),
        writes=Writes(
            sender=config.sender,
            waits=waits,
            parser=config.parser,
            deployment=config.event_source,
            base_path=BASE_PATH,
        ),
        admit=admit,
        admit_auditor=admit_auditor,
        admit_write=admit_write,
    )


def _add_reads(app: FastAPI, parts: Parts) -> None:
    candidates = Coalesced(partial(read_candidates, parts.database))
    add_candidate_routes(
        app,
        base_path=BASE_PATH,
        candidates=candidates,
        past=past_of(parts.database),
        admit=parts.admit,
        admit_auditor=parts.admit_auditor,
    )
    back = parts.tools._replace(admit=parts.admit_auditor)
    add_list_routes(app, base_path=BASE_PATH, tools=parts.tools)
    add_history_routes(app, base_path=BASE_PATH, tools=back)
    add_changes_routes(
        app,
        base_path=BASE_PATH,
        tools=back,
        waits=parts.changes,
        builder=parts.builder,
    )
    add_command_routes(
        app,
        base_path=BASE_PATH,
        waits=parts.waits,
        builder=parts.builder,
        admit=parts.admit_auditor,
    )
    add_operation_routes(
        app,
        base_path=BASE_PATH,
        operations=parts.operations,
        pages=OperationPages(parts.database, parts.tools.cursors),
        streams=parts.streams,
        waits=parts.waits,
        admit=parts.admit_auditor,
    )


def _add_writes(app: FastAPI, parts: Parts) -> None:
    add_candidate_write_routes(
        app,
        base_path=BASE_PATH,
        writes=parts.writes,
        past=partial(read_past, parts.database, as_of=None),
        builder=parts.builder,
        admit_writer=parts.admit_write("candidates:write"),
        admit_eraser=parts.admit_write("candidates:erase"),
    )
    add_bulk_routes(
        app,
        base_path=BASE_PATH,
        writes=parts.writes,
        admit_writer=parts.admit_write("candidates:write"),
    )
    add_steering_routes(
        app,
        base_path=BASE_PATH,
        writes=parts.writes,
        operations=parts.operations,
        admit=parts.admit_write("operations:manage"),
    )


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
