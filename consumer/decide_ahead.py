"""What becomes of the items of a chunk; of the next chunk's already while the last one is written.

That holds only if nothing else was written on the lane in between, which the lane's row tells: the
candidates of one operation are all different, and nobody but the lane's owner writes them.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from consumer.operation_store import Alike, Found, NextChunk, OperationStore, alike
from consumer.store import StoreError
from contract.lanes import LaneRow
from domain.bulk import decide_items
from domain.limits import AHEAD_WAIT_SECONDS_MAX, ITEMS_DECIDED_AT_ONCE
from domain.verdicts import BulkItem, CandidateKey
from domain.working import History, Working

_LATER = ""
"""In place of the instant, which only the lane's row gives under its lock."""


class Decided(NamedTuple):
    """Items of a chunk, and what the table of candidates gets of them."""

    items: list[BulkItem]
    work: Working
    updates: Alike

    def at(self, instant: str) -> list[BulkItem]:
        """The items, once it is known when they are settled."""
        self.work.happens_at(instant)
        return self.items


class _Wanted(NamedTuple):
    """Which chunk is decided."""

    organization_id: str
    operation_id: str
    first_ordinal: int


def decided(
    chunk: NextChunk,
    candidates: Found,
    history: History,
    now: str,
    refused: frozenset[CandidateKey] = frozenset(),
) -> Decided:
    """What becomes of a chunk whose candidates are so."""
    work = Working(candidates.states, history, now)
    return _decided(chunk, _items(chunk, work, refused), work, candidates.places)


def _decided(
    chunk: NextChunk, items: list[BulkItem], work: Working, places: Mapping[str, str]
) -> Decided:
    _, updated = work.written()
    updates = alike(chunk.operator.organization_id, chunk.order.changes, updated, places)
    return Decided(items, work, updates)


def _items(
    chunk: NextChunk, work: Working, refused: frozenset[CandidateKey] = frozenset()
) -> list[BulkItem]:
    return decide_items(
        chunk.order, chunk.operator.organization_id, chunk.candidate_ids, chunk.expected_versions,
        work, refused,
    )  # fmt: skip


def _note_failed(deciding: "asyncio.Task[Decided]") -> None:
    """A failure nobody asks for is none: the chunk is decided in its turn, and fails there."""
    if not deciding.cancelled():
        deciding.exception()


class DecideAhead:
    """At most one chunk of one lane."""

    def __init__(self, operations: OperationStore) -> None:
        self._operations = operations
        self._wanted: _Wanted | None = None
        self._deciding: asyncio.Task[Decided] | None = None
        self._holds_at: LaneRow | None = None

    def begin(self, chunk: NextChunk) -> None:
        """Decide what comes behind this chunk; not where that takes a look at the journal."""
        self.drop()
        if chunk.status != "running" or chunk.order.on_conflict == "merge":
            return
        first_ordinal = chunk.first_ordinal + len(chunk.candidate_ids)
        self._wanted = _Wanted(*chunk.operator.key, first_ordinal)
        self._deciding = asyncio.create_task(self._decide(chunk, first_ordinal))
        self._deciding.add_done_callback(_note_failed)

    def drop(self) -> None:
        """Forget it, and do not go on with it."""
        if self._deciding is not None:
            self._deciding.cancel()
        self._deciding = self._holds_at = None

    def holds_at(self, lane: LaneRow) -> None:
        """As long as the lane's row is this one."""
        self._holds_at = lane

    async def take(self, lane: LaneRow, chunk: NextChunk) -> Decided | None:
        """What becomes of this chunk, at an instant to be told, if it was decided and is so now."""
        deciding, wanted, holds_at = self._deciding, self._wanted, self._holds_at
        at = _Wanted(*chunk.operator.key, chunk.first_ordinal)
        if deciding is None or holds_at is None or at != wanted or not lane.same_place(holds_at):
            self.drop()
            return None
        await asyncio.wait({deciding}, timeout=AHEAD_WAIT_SECONDS_MAX)
        if not deciding.done():
            self.drop()
            return None
        self._deciding = None
        try:
            ready = deciding.result()
        except StoreError:
            return None
        return ready if len(ready.items) == len(chunk.candidate_ids) else None

    async def _decide(self, before: NextChunk, first_ordinal: int) -> Decided:
        ids, versions, candidates = await self._operations.chunk_at(before.operator, first_ordinal)
        chunk = before._replace(
            first_ordinal=first_ordinal, candidate_ids=ids, expected_versions=versions
        )
        items: list[BulkItem] = []
        work = Working(candidates.states, {}, _LATER)
        for start in range(0, len(ids), ITEMS_DECIDED_AT_ONCE):
            await asyncio.sleep(0)  # the lane's own work goes on meanwhile
            items += _items(chunk.part(start, start + ITEMS_DECIDED_AT_ONCE), work)
        await asyncio.sleep(0)
        return _decided(chunk, items, work, candidates.places)
