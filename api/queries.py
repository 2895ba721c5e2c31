"""What the API asks PostgreSQL: always many questions in one round trip, one being the least.

Each question names its organization twice: as a predicate, and to row-level security.
"""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg

from api.database import Database, statement
from contract.journal import COLUMNS, JournalRow
from contract.state import candidate_state
from domain.candidate import CandidateState
from domain.identity import Identity, identity_range

_CANDIDATES = statement("candidates")
_COMMANDS = statement("commands")
_READINESS = statement("readiness")


CandidateKey = tuple[str, str]
"""`(organization_id, candidate_id)`, both canonical."""


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


UNKNOWN = CommandStatus(None, None)


class Readiness(NamedTuple):
    """The schema's version, how many lanes there are of how many, and which stand still."""

    schema_version: str
    lanes_known: int
    lanes_total: int
    lanes_halted: tuple[int, ...]
    lanes_held: tuple[int, ...]


async def read_candidates(
    database: Database, keys: Sequence[CandidateKey]
) -> dict[CandidateKey, CandidateState]:
    """Those of `keys` that are there, as their newest change events have them."""
    rows = await database.fetch(
        _CANDIDATES,
        [organization_id for organization_id, _ in keys],
        [candidate_id for _, candidate_id in keys],
    )
    return {(row[0], row[1]): candidate_state(dict(row)) for row in rows}


async def read_commands(
    database: Database, keys: Sequence[CommandKey]
) -> dict[CommandKey, CommandStatus]:
    """How each of `keys` stands."""
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
    return {key: _status(key, row) for key, row in zip(keys, rows, strict=True)}


async def read_readiness(database: Database) -> Readiness:
    """What readiness looks at."""
    (row,) = await database.fetch(_READINESS)
    return Readiness(
        row["schema_version"] or "",
        row["lanes_known"],
        row["lanes_total"],
        tuple(row["lanes_halted"] or ()),
        tuple(row["lanes_held"] or ()),
    )


def _identities(key: CommandKey) -> tuple[str, str]:
    if key.source is not None:
        identity = Identity(key.organization_id, key.source, key.command_id).key
        return identity, identity
    return identity_range(key.organization_id, key.command_id)


def _status(key: CommandKey, row: asyncpg.Record) -> CommandStatus:
    if row["kind"] is not None:
        # What the statement leaves out, the result does not need.
        return CommandStatus(JournalRow._make(row.get(name) for name in COLUMNS), None)
    if key.position is None or row["next_offset"] is None:
        return UNKNOWN
    lag = key.position.offset + 1 - row["next_offset"]
    return CommandStatus(None, lag if lag > 0 else None)
