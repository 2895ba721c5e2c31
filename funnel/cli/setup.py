"""`funnel migrate`, `topics`, `config`, `token`: what is done once, before anything runs."""

import asyncio
from datetime import timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import orjson
import typer

from funnel import servers
from funnel.data_folder import data_folder
from funnel.exits import BAD_CONFIGURATION
from funnel.settings import load_settings, unknown_variables

app = typer.Typer()
migrate = typer.Typer(help="The schema of the database.", no_args_is_help=True)
topics = typer.Typer(help="The topics in Kafka.", no_args_is_help=True)
app.add_typer(migrate, name="migrate")
app.add_typer(topics, name="topics")


Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


class Scope(StrEnum):
    """What a token may allow."""

    READ = "candidates:read"
    WRITE = "candidates:write"
    ERASE = "candidates:erase"
    OPERATIONS = "operations:manage"
    AUDIT = "audit:read"
    PLATFORM = "platform:operate"


_SCOPES = [scope for scope in Scope if scope is not Scope.PLATFORM]
"""By default whatever one organization may allow; dead letters belong to none."""


@migrate.command("up")
def migrate_up() -> None:
    """Make the database if there is none, and apply what it lacks."""
    from migrations import runner

    url = servers.database_url(load_settings())
    applied = asyncio.run(runner.migrate_up(url, report=_tell))
    typer.echo(f"at {runner.required_version()}, {len(applied)} applied")


@migrate.command("status")
def migrate_status(json: Json = False) -> None:
    """List the migrations."""
    from migrations import runner

    for each in asyncio.run(runner.status(servers.database_url(load_settings()))):
        if json:
            typer.echo(orjson.dumps(each))
        else:
            typer.echo(f"{each.version} {'applied' if each.applied else 'pending'} {each.name}")


@topics.command("apply")
def topics_apply() -> None:
    """Create the topics that are missing."""
    from funnel.topics import apply

    settings = load_settings()
    created = asyncio.run(
        apply(
            servers.kafka_options(settings),
            servers.database_url(settings),
            settings.topics,
            partitions_total=settings.partitions_total,
        )
    )
    for name in created:
        typer.echo(f"created {name}")
    typer.echo(f"{settings.partitions_total} partitions each, {len(created)} topics created")


@topics.command("check")
def topics_check() -> None:
    """Name every setting of the topics that is not as it must be."""
    from funnel.topics import check

    settings = load_settings()
    problems = asyncio.run(
        check(
            servers.kafka_options(settings),
            servers.database_url(settings),
            settings.topics,
            partitions_total=settings.partitions_total,
        )
    )
    for problem in problems:
        typer.echo(problem, err=True)
    if problems:
        raise typer.Exit(BAD_CONFIGURATION)
    typer.echo("topics are as they must be")


@app.command("config")
def config(json: Json = False) -> None:
    """Print the settings, secrets masked."""
    shown = load_settings().shown()
    for name in unknown_variables():
        _tell(f"funnel: {name}: there is no such setting")
    if json:
        typer.echo(orjson.dumps(shown))
        return
    for name, value in shown.items():
        typer.echo(f"{name}={'' if value is None else value}")


@app.command("token")
def token(
    organization: Annotated[UUID, typer.Option(help="The organization's UUID.")],
    user: Annotated[str, typer.Option(help="Who the token speaks for.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help=f"May be repeated; without it: {', '.join(_SCOPES)}.")
    ] = None,
    hours: Annotated[int, typer.Option(min=1, max=24 * 365, help="How long it is good.")] = 12,
) -> None:
    """Print a token signed by the local development key."""
    from api.dev_keys import load_or_create

    if not user.strip():
        raise typer.BadParameter("--user: whom does the token speak for?")
    signed = load_or_create(data_folder(load_settings())).sign(
        organization_id=str(organization),
        user=user,
        scopes=tuple(each.value for each in scope or _SCOPES),
        lifetime=timedelta(hours=hours),
    )
    typer.echo(signed)


def _tell(line: str) -> None:
    typer.echo(line, err=True)
