"""`funnel consume`, `serve`: one role each, for real deployments."""

from typing import Annotated

import structlog
import typer
import uvloop

from contract.spans import OpenSpan
from funnel import servers
from funnel.logs import configure_logs
from funnel.settings import Settings, load_settings, unknown_variables
from funnel.telemetry import tracing
from migrations.runner import assert_migrated

app = typer.Typer()
log = structlog.get_logger("funnel")


@app.command()
def consume() -> None:
    """Run one consumer; many share the lanes."""
    settings = servers.located(_begin())
    with tracing(settings) as open_span:
        uvloop.run(_consume(settings, open_span))


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="Instead of PORT.", min=0, max=65535)] = None,
) -> None:
    """Run the HTTP API."""
    settings = _begin(port=port)
    with tracing(settings) as open_span:
        uvloop.run(_serve(settings, open_span))


def _begin(*, port: int | None = None) -> Settings:
    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    for name in unknown_variables():
        log.warning("variable means nothing", action="variable_unknown", variable=name)
    return settings


async def _consume(settings: Settings, open_span: OpenSpan) -> None:
    from funnel.consume import run

    async with servers.connection_to(servers.database_url(settings)) as connection:
        await assert_migrated(connection)
    await run(settings, open_span)


async def _serve(settings: Settings, open_span: OpenSpan) -> None:
    """The API starts without the database: readiness tells what it lacks."""
    from funnel.serve import bind, run_api
    from funnel.shutdown import stop_signals

    with stop_signals() as stopping:
        await run_api(settings, bind(settings), stopping, open_span)
