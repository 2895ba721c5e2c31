"""The state in which a window of commands is settled again: tables of one session.

They have the names of the real ones and stand before them, and the session has the auditor's
rights, who may write nothing: whatever is replayed touches nothing that lasts.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from audit.sqlfiles import statement
from contract.journal import JournalRow
from domain.limits import MERGE_VERSIONS_MAX

CandidateKey = tuple[str, str]

_TABLES = statement("replay_tables")
_CANDIDATES = statement("replay_candidates")
_SETTLED = statement("replay_settled")
_HISTORY = statement("replay_history")
_ORGANIZATIONS = statement("replay_organizations")
_AS_RECORDED = statement("replay_as_recorded")
_LANE = statement("replay_lane")
_ERASED = statement("replay_erased")


class ReplayState:
    """The shadow tables of one connection, which has the auditor's role."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def create(self) -> None:
        """Make the tables, empty."""
        await self._connection.execute(_TABLES)

    async def seed(
        self,
        lane: int,
        before: int,
        *,
        keys: Collection[CandidateKey],
        merging: Collection[CandidateKey],
        organizations: Collection[str],
        identities: Collection[str],
    ) -> None:
        """What commands may look at, as it was before result `before` of the lane.

        Args:
            merging: candidates of which the latest versions are asked for, too.
            organizations: whose candidates are all asked for.
        """
        named = list(keys)
        if organizations:
            found = await self._connection.fetch(_ORGANIZATIONS, list(organizations))
            named += [(row["organization_id"], row["candidate_id"]) for row in found]
        if named:
            await self._connection.execute(_CANDIDATES, *_columns(named), lane, before)
        if merging:
            await self._connection.execute(
                _HISTORY, *_columns(list(merging)), lane, before, MERGE_VERSIONS_MAX + 1
            )
        await self._connection.execute(_SETTLED, list(identities), lane, before)

    async def stand(self, first: JournalRow, *, partitions_total: int, changes: int) -> None:
        """The lane as it stood before a row was written, `changes` being its last change."""
        await self._connection.execute(
            _LANE, first.lane, partitions_total, first.source_offset, first.journal_sequence - 1,
            first.result_sequence - 1, changes,
        )  # fmt: skip

    async def take(self, rows: Sequence[JournalRow]) -> None:
        """Changes that are not replayed, as they were recorded."""
        told = [row for row in rows if row.change is not None]
        if told:
            await self._connection.execute(
                _AS_RECORDED,
                [row.organization_id for row in told],
                [row.candidate_id for row in told],
                [row.change for row in told],
            )

    async def erased(self, keys: Collection[CandidateKey]) -> set[CandidateKey]:
        """Those of the candidates that were erased."""
        if not keys:
            return set()
        rows = await self._connection.fetch(_ERASED, *_columns(list(keys)))
        return {(str(row["organization_id"]), str(row["candidate_id"])) for row in rows}


def _columns(keys: Sequence[CandidateKey]) -> tuple[list[UUID | str], list[UUID | str]]:
    return [key[0] for key in keys], [key[1] for key in keys]
