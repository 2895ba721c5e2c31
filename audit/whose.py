"""Whose an id is, for operators, who stand above organizations.

Ids are made by senders, so that two organizations may hold the same one.
"""

from uuid import UUID

import asyncpg

from audit.sqlfiles import statement
from domain.identity import identity_range_of_time

_OF_CANDIDATE = statement("organizations_of_candidate")
_OF_COMMAND = statement("organizations_of_command")


async def organizations_of_candidate(
    connection: asyncpg.Connection, candidate_id: UUID
) -> list[UUID]:
    """All that have this candidate, or have erased it."""
    rows = await connection.fetch(_OF_CANDIDATE, candidate_id)
    return [row["organization_id"] for row in rows]


async def organizations_of_command(connection: asyncpg.Connection, command_id: str) -> list[UUID]:
    """All in whose journal there is a command with this id.

    Raises:
        ValueError: it is no UUIDv7, and no index finds it without its organization.
    """
    bounds = identity_range_of_time(command_id)
    if bounds is None:
        raise ValueError("not a UUIDv7")
    lowest, highest = bounds
    rows = await connection.fetch(_OF_COMMAND, command_id, UUID(lowest), UUID(highest))
    return [row["organization_id"] for row in rows]
