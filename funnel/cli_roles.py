"""`funnel consume`, `serve`: one role each, for real deployments."""

from typing import Annotated

import structlog
import typer
import uvloop

from funnel import servers
from funnel.logs import configure_logs
from funnel.settings import Settings, load_settings, unknown_variables
from migrations.runner import assert_migrated

app = typer.Typer()
log = structlog.get_logger("funnel")


@app.command()
def consume() -> None:
    """Run one consumer; many share the lanes."""
    uvloop.run(_consume(servers.located(_begin())))


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="Instead of PORT.", min=0, max=65535)] = None,
) -> None:
    """Run the HTTP API."""
    uvloop.run(_serve(_begin(port=port)))


def _begin(*, port: int | None = None) -> Settings:
    settings = load_settings()
    if port is not None:
        settings = settings.model_copy(update={"port": port})
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    for name in unknown_variables():
        log.warning("variable means nothing", action="variable_unknown", variable=name)
    return settings


async def _consume(settings: Settings) -> None:
    from funnel.consume import run

    async with servers.connection_to(servers.database_url(settings)) as connection:
        await assert_migrated(connection)
    await run(settings)


async def _serve(settings: Settings) -> None:
    """The API starts without the database: readiness tells what it lacks."""
    from funnel.serve import bind, run_api
    from funnel.shutdown import stop_signals

    with stop_signals() as stopping:
        await run_api(settings, bind(settings), stopping)
