"""Erasures in PostgreSQL, always within a lane transaction.

Accepting one deletes the candidate's row and blocks the id, with the lane's rights; what was
written of the person elsewhere is emptied by `erase_step`, which alone has the right to.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from consumer.sqlfiles import statement
from consumer.store import Connection, answered_within, demand_rows
from contract.journal import JournalRow
from contract.lanes import LaneRow, Published
from domain.verdicts import CandidateKey, Erasure

STEP_WITHIN = timedelta(seconds=1)
"""A step that takes longer is undone, and less is tried: live batches of the lane wait for it."""

_ERASED = statement("erased")
_DELETE_CANDIDATES = statement("delete_candidates")
_ERASE_AGAIN = statement("erase_again")
_INSERT_ERASURES = statement("insert_erasures")
_MARK_PUBLISHED = statement("mark_published")
_ERASE_STEP = statement("erase_step")


class Step(NamedTuple):
    """What a step did of one erasure, and whose it is.

    Attributes:
        journal_rows, operations, dead_letters: emptied so far.
        idle: it waits until all that may name the candidate is published.
        completed: nothing readable is left.
        busy: nothing was done, as a sealer or a checkpoint is at a lane.
    """

    organization_id: str
    candidate_id: str
    command_id: str
    command_source: str
    command_type: str | None
    actor: str
    traceparent: str | None
    tracestate: str | None
    accepted_at: datetime
    journal_rows: int
    operations: int
    dead_letters: int
    idle: bool
    completed: bool
    busy: bool


async def erased(connection: Connection, keys: Iterable[CandidateKey]) -> set[CandidateKey]:
    """Which of these candidates, none of which is there, were erased."""
    organization_ids, candidate_ids = zip(*keys, strict=True)
    rows = await connection.fetch(_ERASED, organization_ids, candidate_ids)
    return {(str(row[0]), str(row[1])) for row in rows}


async def accept(
    connection: Connection,
    lane: LaneRow,
    erasures: Sequence[Erasure],
    rows: Iterable[JournalRow],
) -> None:
    """Deletes the candidates and blocks their ids.

    Args:
        rows: the journal rows of the batch, among them those of the erase commands.

    Raises:
        TryAgain: a candidate is not as it was seen.
    """
    seen = [(*e.key, e.seen_version) for e in erasures if e.seen_version is not None]
    if seen:
        done = await connection.execute(_DELETE_CANDIDATES, *zip(*seen, strict=True))
        demand_rows(done, len(seen))
    reasons = {erasure.key: erasure.reason for erasure in erasures}
    proofs = [
        (
            row.organization_id, row.candidate_id, row.result_sequence, row.version,
            row.command_id, row.command_source, row.actor,
            reasons[str(row.organization_id), str(row.candidate_id)],
        )
        for row in rows
        if row.change_sequence is not None and row.change is None
    ]  # fmt: skip
    await connection.execute(
        _INSERT_ERASURES, lane.lane, lane.recorded_at, *zip(*proofs, strict=True)
    )


async def note_named(connection: Connection, named: Mapping[CandidateKey, bool]) -> None:
    """Commands named candidates that were erased: what was kept of these is to be emptied, too.

    Args:
        named: True where dead letters are to be gone through again.
    """
    keys = sorted(named)
    organization_ids, candidate_ids = zip(*keys, strict=True)
    depths = [2 if named[key] else 1 for key in keys]
    await connection.execute(_ERASE_AGAIN, organization_ids, candidate_ids, depths)


async def take_step(
    connection: Connection,
    lane: LaneRow,
    published: Published,
    *,
    rows_max: int,
    bytes_max: int,
    after_organization: str,
) -> Step | None:
    """Empties some of what the lane's open erasures must make unreadable; None: none is open.

    Args:
        published: how far the lane's output has got; what lies behind is left for later.
        rows_max: looked at, of journal rows; of what is cheaper to look at, more.
        after_organization: whose turn it was; the next one behind it has the next.

    Raises:
        DataRefused: it takes too long.
    """
    await connection.execute(
        _MARK_PUBLISHED, lane.lane, lane.owner_epoch, published.result_sequence,
        published.end_offset,
    )  # fmt: skip
    async with answered_within(connection, STEP_WITHIN, "step"):
        row = await connection.fetchrow(
            _ERASE_STEP, lane.lane, lane.recorded_at, rows_max, bytes_max, after_organization
        )
    if row is None:
        return None
    step = Step(*row)
    return step._replace(
        organization_id=str(step.organization_id), candidate_id=str(step.candidate_id)
    )
