"""`funnel tail` and `funnel get`: look at the outputs and at one candidate.

Outputs are read `read_committed`, every partition by itself, without a group.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from funnel import servers
from funnel.cli.instants import instant
from funnel.cli.quiet import quiet_logs
from funnel.cli.whose import Organization, owner_of_candidate
from funnel.exits import BAD_DATA
from funnel.settings import load_settings
from funnel.shutdown import stop_signals

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


class Output(StrEnum):
    """What can be tailed."""

    RESULTS = "results"
    CHANGES = "changes"
    DEAD_LETTERS = "dead-letters"


@app.command()
def tail(
    output: Annotated[Output, typer.Argument()],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="What is there already comes first.")
    ] = False,
    json: Json = False,
) -> None:
    """Read one of the outputs until Ctrl-C.

    With --json each line is {topic, partition, offset, key, headers, value}. Bytes that are not
    JSON are text; bytes that are not UTF-8 are {"base64": …}.
    """
    from funnel.cli.tailing import as_json, as_text, tail_topic

    settings = load_settings()
    quiet_logs(settings)
    kafka = servers.kafka_options(settings)
    topic = {
        Output.RESULTS: settings.topics.results,
        Output.CHANGES: settings.topics.changes,
        Output.DEAD_LETTERS: settings.topics.dead_letters,
    }[output]

    async def until_asked() -> None:
        with stop_signals() as stopping:
            await tail_topic(
                kafka,
                topic,
                from_beginning=from_beginning,
                show=lambda record: typer.echo((as_json if json else as_text)(record)),
                stopping=stopping,
            )

    asyncio.run(until_asked())


@app.command()
def get(
    candidate_id: Annotated[UUID, typer.Argument(metavar="ID")],
    organization: Organization = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="As it was at this version.")
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", parser=instant, help="As it was at this instant."),
    ] = None,
    json: Json = False,
) -> None:
    """Show one candidate, as PostgreSQL has it now or as the journal had it then."""
    if version is not None and as_of is not None:
        raise typer.BadParameter("--version or --as-of, not both")
    url = servers.database_url(load_settings())
    with servers.reaching_database():
        found = asyncio.run(
            _candidate(url, organization, candidate_id, version=version, as_of=as_of)
        )
    if found is None:
        then = "" if version is None and as_of is None else " then"
        there = "" if organization is None else f" in {organization}"
        typer.echo(f"funnel: there is no candidate {candidate_id}{there}{then}", err=True)
        raise typer.Exit(BAD_DATA)
    if json:
        typer.echo(orjson.dumps(found))
        return
    for name, value in found.items():
        shown = value if isinstance(value, str) else orjson.dumps(value).decode()
        typer.echo(f"{name:16} {shown}")


async def _candidate(
    url: str,
    told: UUID | None,
    candidate_id: UUID,
    *,
    version: int | None,
    as_of: datetime | None,
) -> Mapping[str, Any] | None:
    from audit.candidates import read_candidate
    from audit.database import open_audit
    from audit.history import candidate_at

    async with open_audit(url, name="funnel get") as connection:
        organization_id = await owner_of_candidate(connection, candidate_id, told)
        if version is None and as_of is None:
            return await read_candidate(
                connection, organization_id=organization_id, candidate_id=candidate_id
            )
        return await candidate_at(
            connection,
            organization_id=organization_id,
            candidate_id=candidate_id,
            version=version,
            as_of=as_of,
        )
