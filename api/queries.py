"""What the API asks PostgreSQL, in the words of the contract.

Each statement names the organization twice: as a predicate, and to row-level security.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import orjson

from api.database import Database, statement
from contract.journal import COLUMNS, JournalRow, timestamp_text
from domain.candidate import CandidateState
from domain.identity import Identity, identity_prefix

_CANDIDATE = statement("candidate")
_COMMANDS = statement("commands")
_READINESS = statement("readiness")


class Position(NamedTuple):
    """A place in the commands topic: what a writer knows of its command once it is published."""

    lane: int
    offset: int


class CommandKey(NamedTuple):
    """A command that somebody asks for; without a source, of any source, the newest."""

    organization_id: str
    command_id: str
    source: str | None = None
    position: Position | None = None


class CommandStatus(NamedTuple):
    """How a command stands.

    `ended` is its journal row, of kind `command` (settled) or `dead_letter`. `lag` counts the
    records that its lane has yet to settle, itself included: positive while it is pending, None
    where nothing tells that it will ever be settled.
    """

    ended: JournalRow | None
    lag: int | None


class Readiness(NamedTuple):
    """The schema's version, and how many lanes there are of how many."""

    schema_version: str
    lanes_known: int
    lanes_total: int


async def read_candidate(
    database: Database, *, organization_id: str, candidate_id: str
) -> CandidateState | None:
    """The candidate as the newest change event has it; ids are canonical UUIDs."""
    rows = await database.fetch(_CANDIDATE, organization_id, candidate_id)
    if not rows:
        return None
    row = rows[0]
    return {
        "organization_id": organization_id,
        "candidate_id": candidate_id,
        "first_name": row["first_name"],
        "last_name": row["last_name"],
        "email": row["email"],
        "phone": row["phone"],
        "status": row["status"],
        "pipeline_stage": row["pipeline_stage"],
        "rating": row["rating"],
        "source": row["source"],
        "tags": row["tags"],
        "attributes": orjson.loads(row["attributes"]),
        "version": row["version"],
        "created_at": timestamp_text(row["created_at"]),
        "updated_at": timestamp_text(row["updated_at"]),
    }


async def read_commands(database: Database, keys: Sequence[CommandKey]) -> list[CommandStatus]:
    """How each of `keys` stands, in their order, in one round trip."""
    ranges = [_identities(key) for key in keys]
    rows = await database.fetch(
        _COMMANDS,
        [key.organization_id for key in keys],
        [key.command_id for key in keys],
        [lowest for lowest, _ in ranges],
        [highest for _, highest in ranges],
        [key.position.lane if key.position else None for key in keys],
        [key.position.offset if key.position else None for key in keys],
    )
    return [_status(key, row) for key, row in zip(keys, rows, strict=True)]


async def read_readiness(database: Database) -> Readiness:
    """What readiness looks at."""
    (row,) = await database.fetch(_READINESS)
    return Readiness(row["schema_version"] or "", row["lanes_known"], row["lanes_total"])


def _identities(key: CommandKey) -> tuple[str, str]:
    if key.source is not None:
        identity = Identity(key.organization_id, key.source, key.command_id).key
        return identity, identity
    prefix = identity_prefix(key.organization_id, key.command_id)
    return prefix + "0" * 16, prefix + "f" * 16


def _status(key: CommandKey, row: asyncpg.Record) -> CommandStatus:
    if row["kind"] is not None:
        # What the statement leaves out, the result does not need.
        return CommandStatus(JournalRow(*(row.get(name) for name in COLUMNS)), None)
    if key.position is None or row["next_offset"] is None:
        return CommandStatus(None, None)
    lag = key.position.offset + 1 - row["next_offset"]
    return CommandStatus(None, lag if lag > 0 else None)
