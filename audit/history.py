"""One candidate through time, from the journal: as it was, and who changed it from what to what.

What the journal says is what was published: a state is the `state` of a change event, and a step of
the history is the event less its state.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from audit.sqlfiles import statement

PAGE_ROWS = 500
"""Versions fetched at once: some 500 KB."""

_VERSION_MAX = 2**63 - 1
_CANDIDATE_AT = statement("candidate_at")
_CANDIDATE_HISTORY = statement("candidate_history")


async def candidate_at(
    connection: asyncpg.Connection,
    *,
    organization_id: UUID,
    candidate_id: UUID,
    version: int | None = None,
    as_of: datetime | None = None,
) -> dict[str, Any] | None:
    """The state of a candidate at a version, or at an instant (changes of that instant included).

    None: the candidate did not exist then, the journal does not reach back so far, or it was
    erased.
    """
    row = await connection.fetchrow(_CANDIDATE_AT, organization_id, candidate_id, version, as_of)
    if row is None or row["change"] is None:
        return None
    state: dict[str, Any] | None = orjson.loads(row["change"]).get("state")
    return state


async def candidate_history(
    connection: asyncpg.Connection,
    *,
    organization_id: UUID,
    candidate_id: UUID,
    limit: int | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """The versions of a candidate, the newest first, `limit` of them at most."""
    before, left = _VERSION_MAX, limit
    while left is None or left > 0:
        wanted = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
        rows = await connection.fetch(
            _CANDIDATE_HISTORY, organization_id, candidate_id, before, wanted
        )
        for row in rows:
            yield _step(row)
        if len(rows) < wanted:
            return
        before = rows[-1]["version"]
        left = None if left is None else left - len(rows)


def _step(row: asyncpg.Record) -> dict[str, Any]:
    data = orjson.loads(row["change"] or b"{}")
    step = {
        name: data.get(name)
        for name in (
            "version", "previous_version", "changed", "actor", "command_id", "command_source",
        )
    }  # fmt: skip
    step |= {"version": row["version"], "command_type": row["command_type"]}
    if "operation_id" in data:
        step["operation_id"] = data["operation_id"]
    return step | {
        "recorded_at": row["recorded_at"],
        "partition": row["lane"],
        "sequence": row["change_sequence"],
    }
