"""The API process put together: the socket, the keys, the server and its end."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
import uvicorn
from limits.errors import ConfigurationError
from prometheus_client import CollectorRegistry

from api import cursors
from api.app import ApiConfig, create_app
from api.rates import WriteLimit
from api.unreadable import HttpProtocol
from contract.spans import OpenSpan
from domain.commands import CommandParser
from funnel import servers
from funnel.command_sender import KafkaSender
from funnel.data_folder import data_folder
from funnel.dead_letter_desk import Desk
from funnel.issuers import verifier_of
from funnel.redriving import RedriveSender
from funnel.settings import BadSettings, Settings
from migrations.runner import required_version
from producer.forward import Forwarder
from producer.repairs import repair_aiokafka

GRACE_S_MAX = 10
"""For requests under way; the waiting ones are answered at once."""

BACKLOG = 2048

log = structlog.get_logger("funnel")


async def run_api(
    settings: Settings,
    listener: socket.socket,
    stopping: asyncio.Event,
    open_span: OpenSpan,
    *,
    ready: Callable[[], None] = lambda: None,
    registry: CollectorRegistry | None = None,
) -> None:
    """Serve on `listener` until `stopping`; it is closed then.

    Args:
        settings: must say where PostgreSQL is; the development key is in their data folder, and
            the key of cursors unless it is set.
        listener: from `bind`.
        stopping: answers what is waiting, then ends.
        open_span: from `tracing`.
        ready: called once requests are answered.
        registry: what `/metrics` shows beside the API's own; by default nothing.
    """
    repair_aiokafka()
    sender = KafkaSender(
        kafka=servers.kafka_options(settings),
        topics=settings.topics,
        source=settings.event_source,
    )
    redrives = Forwarder(kafka=servers.kafka_options(settings), topic=settings.topics.commands)
    desk = Desk(servers.database_url(settings), RedriveSender(redrives))
    app = create_app(
        ApiConfig(
            database_url=servers.database_url(settings),
            verifier=verifier_of(settings),
            schema_version=required_version(),
            topics=settings.topics,
            event_source=settings.event_source,
            sender=sender,
            desk=desk,
            parser=CommandParser(phone_region=settings.phone_region),
            cursors=_cursors(settings),
            write_limit=_write_limit(settings),
            cors_origins=settings.cors_origins.split(",") if settings.cors_origins else (),
            open_span=open_span,
        ),
        registry,
    )
    server = Server(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S_MAX,
        ),
        ready=ready,
    )

    async def end_when_asked() -> None:
        await stopping.wait()
        app.state.waits.end_all()
        app.state.changes.end_all()
        server.should_exit = True

    host, port = listener.getsockname()[:2]
    log.info("API started", action="api_started", host=host, port=port)
    ending = asyncio.create_task(end_when_asked())
    try:
        async with sender.running(), redrives.running(), desk.running():
            await server.serve(sockets=[listener])
    finally:
        ending.cancel()
    log.info("API stopped", action="api_stopped")


def _cursors(settings: Settings) -> cursors.Cursors:
    """With the key that is set, else with that of the data folder."""
    if secret := settings.cursor_key.get_secret_value():
        return cursors.Cursors(secret)
    return cursors.load_or_create(data_folder(settings))


def _write_limit(settings: Settings) -> WriteLimit:
    try:
        return WriteLimit(
            settings.write_limit, store=settings.write_limit_storage.get_secret_value()
        )
    except ConfigurationError:  # its message has the URL, and so the credentials
        raise BadSettings(
            "FUNNEL_WRITE_LIMIT_STORAGE: is no storage that can be used (redis needs its extra)"
        ) from None


def bind(settings: Settings) -> socket.socket:
    """A socket that listens where HOST and PORT say.

    Raises:
        BadSettings: somebody else listens there, or there is no such address.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except socket.gaierror as error:
        raise BadSettings(f"HOST: {settings.host} is no address of this machine") from error
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise BadSettings(f"HOST: {settings.host} is no address of this machine") from error
        raise BadSettings(
            f"PORT: cannot listen on {settings.host}:{settings.port} ({_reason(error)}); "
            "choose another with PORT or --port"
        ) from error


def _reason(error: OSError) -> str:
    """Without what asyncio and socket add, which is the address once more."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, which says when it is ready."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
