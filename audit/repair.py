"""Makes rows of candidates again what the journal says, under the lane's own compare-and-set.

One transaction for a few candidates of a lane: its row is locked, so nobody decides on them
meanwhile; what still differs is corrected; each correction is a journal row of kind `repair` with a
result sequence of its own, published as `candidate.repaired.v1`, so no sequence gets a hole and
every reader of results sees it. Versions and changes stay as they are: the journal was right. What
lists search is put right with it, also where it alone is wrong.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby

import asyncpg
import orjson

from audit.database import open_audit
from audit.keys import Key
from audit.rebuild import UNLIKE_JOURNAL
from audit.sqlfiles import statement
from contract.journal import BUILDER
from domain.identity import home_lane
from domain.merge import same

ROLE = "funnel_repair"
CANDIDATES_A_TRANSACTION = 500
"""The lane waits for some 50 ms."""

_LANE = statement("repair_lane")
_REPAIR = statement("repair_candidates")
_REPAIR_NAMES = statement("repair_names")
_REMOVE = statement("remove_candidates")
_JOURNAL = statement("repair_journal")
_ADVANCE = statement("repair_advance")
_ALL_FIELDS = "*"


class RepairRefused(Exception):
    """The lane's row is not as it was locked: somebody writes it past its lock."""


class Repairer:
    """Repairs in the name of `actor`."""

    def __init__(self, connection: asyncpg.Connection, *, actor: str, lanes_total: int) -> None:
        self._connection = connection
        self._actor = actor
        self._lanes_total = lanes_total

    async def repair(self, keys: Sequence[Key]) -> int:
        """Correct what differs of these candidates, lane by lane; tells how many did."""

        def lane_of(key: Key) -> int:
            return home_lane(str(key.organization_id), self._lanes_total)

        repaired = 0
        for lane, group in groupby(sorted(keys, key=lane_of), key=lane_of):
            own = list(group)
            for first in range(0, len(own), CANDIDATES_A_TRANSACTION):
                part = own[first : first + CANDIDATES_A_TRANSACTION]
                repaired += await self._repair_some(lane, part)
        return repaired

    async def _repair_some(self, lane: int, keys: Sequence[Key]) -> int:
        async with self._connection.transaction():
            (locked,) = await self._connection.fetch(_LANE, lane)
            organizations, candidates = zip(*keys, strict=True)
            rows = await self._connection.fetch(UNLIKE_JOURNAL, organizations, candidates)
            known = [row for row in rows if row["state"] is not None]
            stray = [row for row in rows if row["state"] is None]
            await self._connection.execute(_REPAIR, *_keys(known), [row["state"] for row in known])
            await self._connection.execute(_REMOVE, *_keys(stray))
            named = await self._connection.fetch(_REPAIR_NAMES, organizations, candidates)
            repaired = [(row, _fields(row)) for row in rows] + [(row, []) for row in named]
            if not repaired:
                return 0
            corrected = [row for row, _fields in repaired]
            await self._connection.execute(
                _JOURNAL, locked["recorded_at"], lane, locked["journal_sequence"],
                locked["result_sequence"], locked["next_offset"] - 1, self._actor, BUILDER,
                *_keys(corrected), [row["version"] for row in corrected],
                [orjson.dumps({"fields": fields}) for _row, fields in repaired],
            )  # fmt: skip
            done = await self._connection.execute(
                _ADVANCE, lane, locked["owner_epoch"], locked["next_offset"],
                locked["journal_sequence"], len(repaired), locked["recorded_at"],
            )  # fmt: skip
            if done != "UPDATE 1":
                raise RepairRefused(f"Lane {lane} moved while it was locked.")
        return len(repaired)


@asynccontextmanager
async def open_repairer(database_url: str, *, actor: str) -> AsyncIterator[Repairer]:
    """With the rights of the role for repairs, and no others.

    Raises:
        AuditRefused, OSError, asyncpg.PostgresConnectionError: see `audit.database`.
    """
    async with open_audit(database_url, name="funnel rebuild --repair", role=ROLE) as connection:
        lanes_total = await connection.fetchval("SELECT count(*) FROM lanes")
        yield Repairer(connection, actor=actor, lanes_total=lanes_total)


def _keys(rows: Sequence[asyncpg.Record]) -> tuple[list[object], list[object]]:
    return [row["organization_id"] for row in rows], [row["candidate_id"] for row in rows]


def _fields(row: asyncpg.Record) -> list[str]:
    """The names of what was corrected; all of them where there was no row, or should be none."""
    if row["state"] is None or row["found"] is None:
        return [_ALL_FIELDS]
    state, found = orjson.loads(row["state"]), orjson.loads(row["found"])
    return [name for name, value in state.items() if not same(value, found.get(name))]
