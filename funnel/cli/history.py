"""`funnel history` and `funnel explain`: who changed what, and what became of a command."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import orjson
import typer

from contract.journal import timestamp_text
from funnel import servers
from funnel.cli.output import audited_output
from funnel.cli.quiet import quiet_logs
from funnel.cli.whose import Organization, owner_of_candidate, owner_of_command
from funnel.exits import BAD_DATA
from funnel.settings import Settings, load_settings

if TYPE_CHECKING:
    from audit.explain import Explained

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command()
def history(
    candidate_id: Annotated[UUID, typer.Argument(metavar="ID")],
    organization: Organization = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The newest so many versions.")] = None,
    json: Json = False,
) -> None:
    """The versions of a candidate, newest first: who, what from, what to, by which command, when.

    Shows personal data.
    """
    settings = load_settings()

    async def run() -> int:
        told = 0
        async for step in _steps(settings, organization, candidate_id, limit):
            told += 1
            typer.echo(orjson.dumps(_plain(step)) if json else _step_text(step))
        return told

    with servers.reaching_database():
        told = asyncio.run(run())
    if not told:
        there = "" if organization is None else f" in {organization}"
        typer.echo(f"funnel: the journal has no candidate {candidate_id}{there}", err=True)
        raise typer.Exit(BAD_DATA)


@app.command("explain")
def explain_command(
    command_id: Annotated[str, typer.Argument(metavar="COMMAND_ID")],
    organization: Organization = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only the command with this ce_source.")
    ] = None,
    offsets: Annotated[bool, typer.Option(help="Look the events' offsets up in Kafka.")] = True,
    json: Json = False,
) -> None:
    """What became of a command: received where, settled how and why, its change, its events.

    Each arrival of the command is one entry. No values of candidates are told.
    """
    settings = load_settings()
    quiet_logs(settings)
    with servers.reaching_database():
        explained = asyncio.run(_explain(settings, organization, command_id, source, offsets))
    if not explained:
        whose = "" if organization is None else f" of {organization}"
        typer.echo(f"funnel: the journal knows no command {command_id}{whose}", err=True)
        raise typer.Exit(BAD_DATA)
    for each in explained:
        if json:
            events = [event._asdict() for event in each.events]
            typer.echo(orjson.dumps(_plain({**each.told, "events": events})))
        else:
            typer.echo(_explained_text(each))


async def _steps(
    settings: Settings, told: UUID | None, candidate_id: UUID, limit: int | None
) -> AsyncIterator[dict[str, Any]]:
    from audit.database import open_audit
    from audit.history import candidate_history

    async with open_audit(servers.database_url(settings), name="funnel history") as connection:
        organization_id = await owner_of_candidate(connection, candidate_id, told)
        async for step in candidate_history(
            connection, organization_id=organization_id, candidate_id=candidate_id, limit=limit
        ):
            yield step


async def _explain(
    settings: Settings, told: UUID | None, command_id: str, source: str | None, offsets: bool
) -> "list[Explained]":
    from audit.database import open_audit
    from audit.explain import explain, with_offsets

    output = audited_output(settings, connected=offsets)
    async with open_audit(servers.database_url(settings), name="funnel explain") as connection:
        organization_id = await owner_of_command(connection, command_id, told)
        explained = await explain(
            connection,
            output,
            organization_id=organization_id,
            command_id=command_id,
            command_source=source,
        )
    return await with_offsets(output, explained) if offsets else explained


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """UUIDs of any class and instants as text."""
    return {name: _plain_value(value) for name, value in told.items()}


def _plain_value(value: Any) -> Any:
    match value:
        case datetime():
            return timestamp_text(value)
        case UUID():
            return str(value)
    return value


def _step_text(step: dict[str, Any]) -> str:
    by = f"{step['command_type']} {step['command_id']} from {step['command_source']}"
    if "operation_id" in step:
        by += f", operation {step['operation_id']}"
    head = (f"version {step['version']}, {timestamp_text(step['recorded_at'])}, "
            f"by {step['actor']}, {by}")  # fmt: skip
    changed = step["changed"] or {}
    return "\n".join(
        [head]
        + [
            f"  {name}: {_json(change['from'])} → {_json(change['to'])}"
            for name, change in changed.items()
        ]
    )


def _explained_text(explained: "Explained") -> str:
    lines = []
    for name, value in _plain(explained.told).items():
        shown = value if isinstance(value, str) else _json(value)
        if name == "received":
            shown = f"{value['topic']}/{value['partition']}, offset {value['offset']}"
        lines.append(f"{name:16} {shown}")
    for event in explained.events:
        at = "not there" if event.offset is None else f"offset {event.offset}"
        lines.append(f"{'event':16} {event.event_id}, {at}")
    return "\n".join([*lines, ""])


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
