"""What the API asks of the journal: a candidate's past, and the changes of organizations."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from api.database import Database, statement
from contract.journal import COLUMNS, JournalRow, timestamp_text
from contract.state import candidate_state
from domain.candidate import CandidateState

_PAST = statement("past")
_HISTORY = statement("history")
_CHANGES = statement("changes")
_LATEST = statement("latest_changes")
_LANES = statement("lane_changes")
_KEPT_SINCE = statement("journal_kept_since")


class NoLongerKept(Exception):
    """The journal does not reach back that far."""


class ChangePlace(NamedTuple):
    """After which change of an organization, and when that was."""

    sequence: int
    recorded_at: datetime


class ChangesKey(NamedTuple):
    """The changes of an organization after a place."""

    organization_id: str
    after: ChangePlace


async def read_past(
    database: Database,
    organization_id: str,
    candidate_id: str,
    *,
    version: int | None,
    as_of: datetime | None,
) -> CandidateState | None:
    """The candidate at a version or an instant; None if there was no such thing, or is none now.

    Raises:
        NoLongerKept: there may have been, but the journal does not tell.
    """
    rows = await database.fetch(_PAST, organization_id, candidate_id, version, as_of)
    if not rows:
        return None
    row = dict(rows[0])
    past, begins = row.pop("past"), row.pop("begins")
    if past is not None:
        state: CandidateState = orjson.loads(past)["state"]
        return state
    if begins is None:  # as it is now
        return candidate_state(row)
    if begins or (version is not None and version > row["version"]):
        return None
    raise NoLongerKept


async def read_history(
    database: Database, organization_id: str, candidate_id: str, *, before: int, limit: int
) -> list[dict[str, Any]] | None:
    """Versions below `before`, newest first, at most `limit`; None if there is no candidate."""
    rows = await database.fetch(_HISTORY, organization_id, candidate_id, before, limit)
    return [_step(dict(row)) for row in rows[1:]] if rows else None


async def read_changes(
    database: Database, keys: Sequence[ChangesKey], *, limit: int
) -> dict[ChangesKey, list[JournalRow]]:
    """The next changes after each of `keys`, oldest first; a key that has none is not there."""
    found: dict[ChangesKey, list[JournalRow]] = {}
    rows = await database.fetch(
        _CHANGES,
        [key.organization_id for key in keys],
        [key.after.sequence for key in keys],
        [key.after.recorded_at for key in keys],
        limit,
    )
    for row in rows:
        # What the statement leaves out, the event does not need.
        found.setdefault(keys[row["ordinal"] - 1], []).append(
            JournalRow._make(row.get(name) for name in COLUMNS)
        )
    return found


async def read_latest_changes(
    database: Database, organization_ids: Sequence[str]
) -> dict[str, ChangePlace]:
    """The place of each organization's newest change."""
    rows = await database.fetch(_LATEST, organization_ids)
    return {organization_ids[row[0] - 1]: ChangePlace(row[1], row[2]) for row in rows}


async def read_lanes(database: Database) -> Mapping[int, tuple[int, int]]:
    """How many lanes there are, and how far the changes of each go, by lane."""
    return {row[0]: (row[1], row[2]) for row in await database.fetch(_LANES)}


async def read_kept_since(database: Database) -> datetime:
    """Since when the journal is kept."""
    ((kept_since,),) = await database.fetch(_KEPT_SINCE)
    found: datetime = kept_since
    return found


def _step(row: Mapping[str, Any]) -> dict[str, Any]:
    change = orjson.loads(row["change"] or b"{}")
    step = {
        "version": row["version"],
        "previous_version": row["previous_version"],
        "changed": change.get("changed"),
        "actor": row["actor"],
        "command_id": row["command_id"],
        "command_source": row["command_source"],
        "command_type": row["command_type"],
        "recorded_at": timestamp_text(row["recorded_at"]),
    }
    if "operation_id" in change:
        step["operation_id"] = change["operation_id"]
    return step
