"""Where `funnel recover` writes: with the consumer's rights, so no more than a consumer could.

One transaction: the lane's row is locked and must stand where the recovery believes it stands, so
nothing is rebuilt twice and no consumer is overtaken.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import asyncpg
import orjson

from audit.database import AuditRefused
from audit.lost_rows import RecoverRefused
from audit.rebuild import UNLIKE_JOURNAL
from audit.sqlfiles import statement
from contract.dead_letters import DEAD_LETTER_COLUMNS, dead_letter_values
from contract.journal import COLUMNS, JournalRow

ROLE = "funnel_consumer"
_CONNECT_SECONDS_MAX = 10.0
_STATEMENT_SECONDS_MAX = 60.0

_STANDING_LANES = statement("standing_lanes")
_LOCK_STANDING_LANE = statement("lock_standing_lane")
_CANDIDATE_VERSIONS = statement("candidate_versions")
_RESTORE_CANDIDATES = statement("restore_candidates")
_REMOVE_CANDIDATES = statement("remove_candidates")
_REPAIR_CANDIDATES = statement("repair_candidates")
_RESTORE_ERASURES = statement("restore_erasures")
_RECOVER_LANE = statement("recover_lane")

Key = tuple[str, str]


class StandingLane(NamedTuple):
    """A lane's row, as far as its rebuilt rows move it."""

    lane: int
    owner_epoch: int
    next_offset: int
    last_record_offset: int | None
    last_record_timestamp: int | None
    last_record_digest: bytes | None
    journal_sequence: int
    result_sequence: int
    change_sequence: int
    published_result_sequence: int
    published_end_offset: int
    last_recorded_at: datetime | None


class RecoverStore:
    """Reads where lanes and candidates stand, and moves them on."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def lanes(self) -> list[StandingLane]:
        """Every lane."""
        return [StandingLane(*row) for row in await self._connection.fetch(_STANDING_LANES)]

    @asynccontextmanager
    async def written(self, *, keep: bool) -> AsyncIterator[None]:
        """What is written within stays only if it is to be kept; else it was to see it succeed."""
        if keep:
            yield
            return
        outer = self._connection.transaction()
        await outer.start()
        try:
            yield
        finally:
            if not self._connection.is_closed():
                await outer.rollback()

    async def write(
        self,
        before: StandingLane,
        after: StandingLane,
        rows: Sequence[JournalRow],
        reasons: Mapping[int, str],
    ) -> None:
        """All of these rows and what they changed.

        Args:
            reasons: of the erasures among them, by journal sequence.

        Raises:
            RecoverRefused: the lane was moved by somebody else, or a candidate is at another
                version than its first lost change follows.
        """
        async with self.standing(before) as (connection, _):
            states = await self._newest_states(rows)
            await self._restore([state for state in states.values() if state is not None])
            await self._erase(before.lane, states, rows, reasons)
            await self._append(rows)
            await connection.execute(_RECOVER_LANE, *after)

    async def repair(self, before: StandingLane, after: StandingLane, row: JournalRow) -> None:
        """The row of a repair, which is made again if the candidate needs it.

        Raises:
            RecoverRefused: as `write`.
        """
        key = [row.organization_id], [row.candidate_id]
        async with self.standing(before) as (connection, _):
            for unlike in await connection.fetch(UNLIKE_JOURNAL, *key):
                if unlike["state"] is None:
                    await connection.execute(_REMOVE_CANDIDATES, *key)
                else:
                    await connection.execute(_REPAIR_CANDIDATES, *key, [unlike["state"]])
            await self._append([row])
            await connection.execute(_RECOVER_LANE, *after)

    @asynccontextmanager
    async def standing(
        self, lane: StandingLane
    ) -> AsyncIterator[tuple[asyncpg.Connection, StandingLane]]:
        """One transaction, with the lane's row locked where the recovery believes it stands."""
        async with self._connection.transaction():
            found = await self._connection.fetchrow(_LOCK_STANDING_LANE, lane.lane)
            expected = lane.next_offset, lane.journal_sequence, lane.result_sequence
            if found is None or tuple(found)[1:] != expected:
                raise RecoverRefused(f"lane {lane.lane} was moved by somebody else: run this again")
            yield self._connection, lane._replace(owner_epoch=found["owner_epoch"])

    async def _newest_states(self, rows: Sequence[JournalRow]) -> dict[Key, dict[str, Any] | None]:
        """The newest state of each candidate, once the versions prove to follow each other.

        None: it was erased.
        """
        changed = [row for row in rows if row.change_sequence is not None]
        versions = await self._versions({_key(row) for row in changed})
        states: dict[Key, dict[str, Any] | None] = {}
        for row in changed:
            if row.previous_version != versions[_key(row)]:
                raise RecoverRefused(
                    f"candidate {row.candidate_id} is at version {versions[_key(row)]},"
                    f" its next change follows {row.previous_version}"
                )
            versions[_key(row)] = row.version
            states[_key(row)] = None if row.change is None else orjson.loads(row.change)["state"]
        return states

    async def _versions(self, keys: set[Key]) -> dict[Key, int | None]:
        asked = sorted(keys)
        found = await self._connection.fetch(
            _CANDIDATE_VERSIONS, [key[0] for key in asked], [key[1] for key in asked]
        )
        versions: dict[Key, int | None] = dict.fromkeys(asked)
        return versions | {(str(row[0]), str(row[1])): row[2] for row in found}

    async def _restore(self, states: Sequence[dict[str, Any]]) -> None:
        if not states:
            return
        done = await self._connection.execute(_RESTORE_CANDIDATES, orjson.dumps(states).decode())
        if int(done.rpartition(" ")[2]) != len(states):
            raise RecoverRefused("a candidate was changed by somebody else: run this again")

    async def _erase(
        self,
        lane: int,
        states: Mapping[Key, dict[str, Any] | None],
        rows: Sequence[JournalRow],
        reasons: Mapping[int, str],
    ) -> None:
        gone = [key for key, state in states.items() if state is None]
        if not gone:
            return
        await self._connection.execute(_REMOVE_CANDIDATES, *zip(*gone, strict=True))
        erasures = [
            (
                row.organization_id, row.candidate_id, row.result_sequence, row.version,
                row.command_id, row.command_source, row.actor, reasons[row.journal_sequence],
                row.recorded_at,
            )
            for row in rows
            if row.journal_sequence in reasons
        ]  # fmt: skip
        await self._connection.execute(_RESTORE_ERASURES, lane, *zip(*erasures, strict=True))

    async def _append(self, rows: Sequence[JournalRow]) -> None:
        """Straight into the months' partitions, as a consumer does."""
        dead = [row for row in rows if row.kind == "dead_letter"]
        if dead:
            await self._connection.copy_records_to_table(
                "dead_letters",
                records=map(dead_letter_values, dead),
                columns=DEAD_LETTER_COLUMNS,
            )
        for month, of_month in groupby(rows, lambda row: f"{row.recorded_at:%Y_%m}"):
            stored = [
                row._replace(forward=None) if row.kind == "dead_letter" else row for row in of_month
            ]
            await self._connection.copy_records_to_table(
                f"journal_{month}", records=stored, columns=COLUMNS
            )


@asynccontextmanager
async def open_recovery(database_url: str, *, keep: bool) -> AsyncIterator[asyncpg.Connection]:
    """A connection with a consumer's rights.

    Args:
        keep: False for what will be rolled back as a whole, and so may take as long as it takes.

    Raises:
        AuditRefused: the role, a grant or a table is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    try:
        connection = await asyncpg.connect(
            database_url,
            timeout=_CONNECT_SECONDS_MAX,
            command_timeout=_STATEMENT_SECONDS_MAX,
            server_settings={
                "role": ROLE,
                "application_name": "funnel recover",
                "timezone": "UTC",
                "synchronous_commit": "on",
                "lock_timeout": "10s",
                "transaction_timeout": "60s" if keep else "0",
                # As a consumer's sessions are: its statements run here, too.
                "jit": "off",
                "plan_cache_mode": "force_generic_plan",
                "enable_seqscan": "off",
                "enable_hashjoin": "off",
                "enable_mergejoin": "off",
            },
        )
    except asyncpg.InvalidParameterValueError as error:
        raise AuditRefused(f"There is no role {ROLE}: run `funnel migrate up`.") from error
    try:
        await connection.set_type_codec(
            "json", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes
        )
        yield connection
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError) as error:
        raise AuditRefused(f"{error.args[0]}, as {ROLE}: run `funnel migrate up`.") from error
    finally:
        await connection.close(timeout=_CONNECT_SECONDS_MAX)


def _key(row: JournalRow) -> Key:
    return str(row.organization_id), str(row.candidate_id)
