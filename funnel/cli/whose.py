"""`--organization` that was left out: an operator looks in all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from funnel.exits import BAD_DATA, USAGE

if TYPE_CHECKING:
    import asyncpg

LISTED_MAX = 10
"""Of organizations that hold the same id; of more their number will do."""

Organization = Annotated[
    UUID | None,
    typer.Option("--organization", help="Whose; needed only if several have the same id."),
]


async def owner_of_candidate(
    connection: "asyncpg.Connection", candidate_id: UUID, told: UUID | None
) -> UUID:
    """The organization that was told, or the only one with such a candidate, erased or not.

    Raises:
        typer.Exit: there is none, or several.
    """
    from audit.whose import organizations_of_candidate

    if told is not None:
        return told
    return _only(
        f"candidate {candidate_id}", await organizations_of_candidate(connection, candidate_id)
    )


async def owner_of_command(
    connection: "asyncpg.Connection", command_id: str, told: UUID | None
) -> UUID:
    """The same of a command.

    Raises:
        typer.Exit: as above, or its id is no UUIDv7.
    """
    from audit.whose import organizations_of_command

    if told is not None:
        return told
    try:
        found = await organizations_of_command(connection, command_id)
    except ValueError:
        typer.echo(
            "funnel: this id is no UUIDv7, so that it is found with its --organization only",
            err=True,
        )
        raise typer.Exit(USAGE) from None
    return _only(f"command {command_id}", found)


def _only(what: str, organizations: Sequence[UUID]) -> UUID:
    match organizations:
        case []:
            typer.echo(f"funnel: no organization has a {what}", err=True)
            raise typer.Exit(BAD_DATA)
        case [only]:
            return only
    listed = ", ".join(str(each) for each in organizations[:LISTED_MAX])
    more = len(organizations) - LISTED_MAX
    listed += f" and {more} more" if more > 0 else ""
    typer.echo(
        f"funnel: several organizations have a {what}: {listed}; choose with --organization",
        err=True,
    )
    raise typer.Exit(USAGE)
