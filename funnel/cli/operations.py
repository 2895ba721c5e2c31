"""`funnel operations list|show|pause|resume|cancel|retry-failed`: bulk operations.

Exit codes: 65 there is no such operation, or it cannot be steered so; 75 not settled in time.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer

from funnel import servers
from funnel.cli.quiet import quiet_logs
from funnel.exits import BAD_DATA
from funnel.settings import load_settings

SOURCE = "/gulf-funnel/cli"
FAILED = ("conflict", "not_found", "invalid")

app = typer.Typer()
operations = typer.Typer(help="Bulk operations: look at them, steer them.", no_args_is_help=True)
app.add_typer(operations, name="operations")

Operation = Annotated[UUID, typer.Argument(metavar="ID")]
Organization = Annotated[UUID, typer.Option("--organization", help="Whose operation.")]
Actor = Annotated[str, typer.Option("--actor", help="Who asks; the journal keeps it.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for a result.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


class Status(StrEnum):
    """What an operation can be."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@operations.command("list")
def list_all(
    organization: Annotated[UUID | None, typer.Option("--organization")] = None,
    status: Annotated[Status | None, typer.Option("--status")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 50,
    json: Json = False,
) -> None:
    """List bulk operations, the newest first."""

    async def read(url: str) -> list[dict[str, Any]]:
        from audit.database import open_audit
        from audit.operations import list_operations

        async with open_audit(url, name="funnel operations") as connection:
            return await list_operations(
                connection, organization_id=organization, status=status, limit=limit
            )

    with servers.reaching_database():
        found = asyncio.run(read(servers.database_url(load_settings())))
    for each in found:
        typer.echo(orjson.dumps(each) if json else _line(each))


@operations.command()
def show(
    operation: Operation,
    organization: Organization,
    failed: Annotated[
        int, typer.Option("--failed", min=0, max=10_000, help="So many failed items, too.")
    ] = 20,
    json: Json = False,
) -> None:
    """Show one operation: what it does, how far it is, what failed."""

    async def read(url: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        from audit.database import open_audit
        from audit.operations import read_items, read_operation

        async with open_audit(url, name="funnel operations") as connection:
            found = await read_operation(
                connection, organization_id=organization, operation_id=operation
            )
            items = await read_items(
                connection,
                organization_id=organization,
                operation_id=operation,
                outcomes=FAILED,
                limit=failed,
            )
            return found, items

    with servers.reaching_database():
        found, items = asyncio.run(read(servers.database_url(load_settings())))
    if found is None:
        typer.echo(f"funnel: there is no operation {operation} of {organization}", err=True)
        raise typer.Exit(BAD_DATA)
    if json:
        typer.echo(orjson.dumps(found | {"failed": items}))
        return
    for name, value in found.items():
        shown = value if isinstance(value, str) else orjson.dumps(value).decode()
        typer.echo(f"{name:16} {shown}")
    for item in items:
        typer.echo(f"{item['outcome']:16} {item['candidate_id']} {item.get('reason', '')}")


def _steering(action: Any) -> Callable[..., None]:
    def steer(
        operation: Operation,
        organization: Organization,
        actor: Actor = "cli",
        timeout: Timeout = 30.0,
        json: Json = False,
    ) -> None:
        _steer(operation, organization, action, actor=actor, timeout=timeout, json=json)

    return steer


for _action, _help in (
    ("pause", "Stop behind the chunk in hand, until it is resumed."),
    ("resume", "Go on with an operation that is paused."),
    ("cancel", "Change nothing more; what is done stays done."),
    (
        "retry_failed",
        "Try the failed items of an operation that is over again, and see that through.",
    ),
):
    operations.command(_action.replace("_", "-"), help=_help)(_steering(_action))


def _steer(
    operation: UUID, organization: UUID, action: Any, *, actor: str, timeout: float, json: bool
) -> None:
    from funnel.cli.sending import Sending
    from producer.client import OutgoingCommand

    settings = load_settings()
    quiet_logs(settings)
    sending = Sending(
        kafka=servers.kafka_options(settings),
        topics=settings.topics,
        source=SOURCE,
        wait=timeout,
        json=json,
    )
    command = OutgoingCommand.control(
        organization_id=organization, operation_id=operation, action=action, actor=actor
    )
    raise typer.Exit(asyncio.run(sending.one(command)))


def _line(operation: Mapping[str, Any]) -> str:
    from funnel.cli.sending import operation_line

    began = f"{operation['created_at']:%Y-%m-%d %H:%M:%S}"
    return f"{began} {operation_line(operation)} organization {operation['organization_id']}"
