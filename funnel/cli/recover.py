"""`funnel recover`: exit 0 when PostgreSQL is level with the output, 65 when it cannot be."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from funnel import servers
from funnel.cli.progress import counting
from funnel.cli.quiet import quiet_logs
from funnel.settings import load_settings

if TYPE_CHECKING:
    from audit.recover import Recovered

app = typer.Typer()


@app.command()
def recover(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Rebuild and compare everything, keep nothing of it.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a lane.")] = False,
) -> None:
    """Rebuild journal rows, candidates and lanes that PostgreSQL has lost and the topics tell.

    For a database restored from an old backup, whose lanes are halted because the output is ahead
    of the journal. Consumers may run; their lanes go on by themselves afterwards. May be
    interrupted and started again.
    """
    from audit.outputs import Output
    from audit.recover import recover as run
    from consumer.tolerant import tolerate_hostile_batches
    from contract.spans import untraced
    from funnel.consume import consume_config
    from funnel.recovering import ConsumerSettler

    settings = servers.located(load_settings())
    quiet_logs(settings)
    tolerate_hostile_batches()
    with servers.reaching_database(), counting("recover", "results") as report:
        config = consume_config(settings, untraced)
        output = Output(kafka=config.kafka, topics=config.topics, event_source=config.event_source)
        settler = ConsumerSettler(config)
        done = asyncio.run(
            run(config.database_url, output, settler, dry_run=dry_run, report=report)
        )
    if json:
        for each in done:
            typer.echo(orjson.dumps(asdict(each)))
        return
    for each in done:
        typer.echo(_line(each, dry_run=dry_run))
    if not done:
        typer.echo("nothing is lost: no output is ahead of the journal")


def _line(lane: "Recovered", *, dry_run: bool) -> str:
    return (
        f"lane {lane.lane}: {lane.results:,} results {'to rebuild' if dry_run else 'rebuilt'},"
        f" with {lane.changes:,} changes, {lane.dead_letters:,} dead letters,"
        f" {lane.reroutes:,} reroutes"
    )
