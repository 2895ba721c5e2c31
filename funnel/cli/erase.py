"""`funnel erase`: a person's data becomes unreadable, for good.

Exit codes: 65 if the command is none, or was refused; 69 if Kafka is away; 75 if what was waited
for did not come in time.
"""

import asyncio
from typing import Annotated
from uuid import UUID

import typer

from domain.commands import CommandParser
from funnel import servers
from funnel.cli.command_files import problem_of
from funnel.cli.erasing import EraseRun
from funnel.cli.quiet import quiet_logs
from funnel.cli.whose import Organization, owner_of_candidate
from funnel.exits import BAD_DATA
from funnel.settings import Settings, load_settings
from producer.client import OutgoingCommand, new_command_id

SOURCE = "/gulf-funnel/cli"

app = typer.Typer()


@app.command()
def erase(
    candidate_id: Annotated[UUID, typer.Argument(metavar="ID")],
    reason: Annotated[
        str, typer.Option("--reason", help="Kept for good: it must not tell of the person.")
    ],
    organization: Organization = None,
    actor: Annotated[str, typer.Option("--actor", help="Who asks; kept for good.")] = "cli",
    command_id: Annotated[str, typer.Option("--id", help="By default a new UUIDv7.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Until nothing of it is left, not only until accepted.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait.")] = 60.0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Erase a candidate: state, journal, operations, dead letters. The id stays blocked."""
    settings = load_settings()
    quiet_logs(settings)
    command = OutgoingCommand.erase(
        organization_id=organization or _owner(settings, candidate_id),
        candidate_id=candidate_id,
        actor=actor,
        reason=reason,
        id=command_id or new_command_id(),
    )
    if problem := problem_of(command, CommandParser()):
        typer.echo(f"funnel: {problem}", err=True)
        raise typer.Exit(BAD_DATA)
    run = EraseRun(
        kafka=servers.kafka_options(settings), topics=settings.topics, source=SOURCE, json=json
    )
    raise typer.Exit(asyncio.run(run(command, seconds_max=timeout, completed=wait)))


def _owner(settings: Settings, candidate_id: UUID) -> UUID:
    """Asks PostgreSQL, which a command that names its organization does not need."""

    async def owner() -> UUID:
        from audit.database import open_audit

        async with open_audit(servers.database_url(settings), name="funnel erase") as connection:
            return await owner_of_candidate(connection, candidate_id, None)

    with servers.reaching_database():
        return asyncio.run(owner())
