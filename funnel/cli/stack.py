"""`funnel stack`: the embedded servers of the data folder, in the background."""

from collections.abc import Iterable
from typing import Annotated

import orjson
import typer

from funnel.data_folder import UpRuns, alone_in, data_folder
from funnel.settings import load_settings
from stack.embedded import EmbeddedStack
from stack.servers import Servers, StackError

app = typer.Typer()
stack = typer.Typer(
    help="The embedded PostgreSQL and Kafka, in the background.", no_args_is_help=True
)
app.add_typer(stack, name="stack")


@stack.command()
def start() -> None:
    """Start both, and print how to reach them as NAME=value lines."""
    servers = EmbeddedStack(data_folder(load_settings()), report=_tell).start()
    typer.echo("\n".join(_lines(servers)))


@stack.command()
def stop() -> None:
    """Stop both; the data stays."""
    folder = data_folder(load_settings())
    embedded = EmbeddedStack(folder, report=_tell)
    with alone_in(folder, otherwise=UpRuns(f"`funnel up` runs in {folder}: stop it instead")):
        running = [each.server for each in embedded.status() if each.running]
        embedded.stop()
    typer.echo(f"stopped {' and '.join(running)}" if running else "nothing was running")


@stack.command()
def status(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Tell how each server is."""
    for each in EmbeddedStack(data_folder(load_settings())).status():
        if json:
            typer.echo(orjson.dumps(each))
        elif each.running:
            typer.echo(f"{each.server:10} running  pid {each.pid}, port {each.port}")
        else:
            typer.echo(f"{each.server:10} stopped")


@stack.command()
def env() -> None:
    """Print how to reach the running servers: `export $(funnel stack env)`."""
    embedded = EmbeddedStack(data_folder(load_settings()))
    if not all(each.running for each in embedded.status()):
        raise StackError("the servers are not running: `funnel stack start`")
    typer.echo("\n".join(_lines(Servers(embedded.postgres.url, embedded.kafka.bootstrap_servers))))


def _lines(servers: Servers) -> Iterable[str]:
    yield f"DATABASE_URL={servers.database_url}"
    yield f"KAFKA_BOOTSTRAP_SERVERS={servers.kafka_bootstrap_servers}"


def _tell(line: str) -> None:
    typer.echo(line, err=True)
