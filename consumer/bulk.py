"""Bulk and control commands of a batch: what they need to know, and what they write besides.

One that reads an operation, or candidates, which only the tables know (large, by filter, or a
control command) stands first in its batch, so what it reads is the effect of all that came before
it and of nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from consumer.decode import Batch, Item, cut
from consumer.operation_store import ItemColumns, OperationStore, Operator, item_columns
from consumer.store import Connection
from contract.lanes import LaneRow
from domain.bulk import differences, too_many
from domain.commands import BulkUpdateCandidates, ControlBulkOperation
from domain.decide import Decision, Submission
from domain.identity import operation_id_of
from domain.limits import BATCH_ITEMS_MAX, BULK_FILTER_ITEMS_MAX, BULK_INLINE_ITEMS_MAX
from domain.verdicts import (
    Admission,
    CandidateKey,
    Counts,
    InlineBulk,
    Operation,
    Steering,
    Verdict,
)


def parts(batch: Batch) -> Iterator[Batch]:
    """A batch in parts that a transaction each will settle: bounded in candidates to change, and
    cut before each command that must stand first."""
    if not batch.bulk:
        yield batch
        return
    rest, start, weight = batch, 0, 0
    for index, item in enumerate(batch.items):
        item_weight, first = _weight(item)
        if index > start and (first or weight + item_weight > BATCH_ITEMS_MAX):
            part, rest = cut(rest, index - start)
            yield part
            start, weight = index, 0
        weight += item_weight
    yield rest


def _weight(item: Item) -> tuple[int, bool]:
    """How many candidates it may change at once, and whether it must stand first."""
    command = item.meaning.command if isinstance(item.meaning, Submission) else None
    if isinstance(command, ControlBulkOperation):
        return 1, True
    if not isinstance(command, BulkUpdateCandidates):
        return 1, False
    ids = command.candidate_ids
    if ids is None:  # alone in its part: a slow filter keeps no others waiting, or is tried again
        return BATCH_ITEMS_MAX, True
    return (1, True) if len(ids) > BULK_INLINE_ITEMS_MAX else (len(ids), False)


def inline_candidates(command: BulkUpdateCandidates) -> Iterator[tuple[CandidateKey, int | None]]:
    """The candidates that are decided within the batch, with their expected versions."""
    ids = command.candidate_ids
    if ids is None or len(ids) > BULK_INLINE_ITEMS_MAX:
        return
    versions = command.expected_versions or {}
    for candidate_id in ids:
        yield (command.organization_id, candidate_id), versions.get(candidate_id)


def opens_work(verdicts: Iterable[Verdict]) -> bool:
    """Does any of them leave something to do in chunks?"""
    return any(
        isinstance(verdict.bulk, Admission)
        or (isinstance(verdict.bulk, Steering) and verdict.bulk.status is not None)
        for verdict in verdicts
    )


def refusable(item: Item) -> bool:
    """Is it a bulk command of which single candidates can be set apart?"""
    command = item.meaning.command if isinstance(item.meaning, Submission) else None
    return isinstance(command, BulkUpdateCandidates) and not _weight(item)[1]


class BulkWrites:
    """Reads and writes operations within the transaction of a batch."""

    def __init__(self, store: OperationStore, *, retention: timedelta) -> None:
        self._store = store
        self._retention = retention

    async def named(
        self, connection: Connection, lane: LaneRow, submissions: Iterable[Submission]
    ) -> dict[CandidateKey, Operation]:
        """The operations that these commands name, or would begin a second time."""
        keys: set[CandidateKey] = set()
        for submission in submissions:
            command = submission.command
            if command is None or command.candidate_id is not None:
                continue
            keys.add((command.organization_id, operation_id_of(submission.key)))
            if isinstance(command, ControlBulkOperation):
                keys.add((command.organization_id, command.operation_id))
        if not keys:
            return {}
        expired = lane.recorded_at - self._retention
        return await self._store.named(connection, keys, expired=expired)

    async def write(
        self, connection: Connection, lane: LaneRow, items: Sequence[Item], decision: Decision
    ) -> Decision:
        """Operations begun, steered, or over; the decision, should a filter match too many.

        Before anything else is written, so that a filter sees what came before this batch only.
        """
        verdicts = iter(decision.verdicts)
        settled: list[Verdict] = []
        done: list[ItemColumns] = []
        for item in items:
            if not isinstance(item.meaning, Submission):
                continue
            verdict = next(verdicts)
            bulk = verdict.bulk
            if isinstance(bulk, InlineBulk):
                operator = operator_of(item, bulk.operation_id)
                await self._insert_inline(connection, lane, operator, bulk)
                done.append(item_columns(operator, 0, bulk.items))
            elif isinstance(bulk, Admission):
                operator = operator_of(item, bulk.operation_id)
                verdict = await self._admit(connection, lane, operator, bulk, verdict)
            elif bulk is not None and bulk.status is not None:
                key = item.organization_id or "", bulk.operation_id
                await self._store.steer(connection, key, bulk.status, lane.recorded_at)
            settled.append(verdict)
        await self._store.insert_items(connection, done)
        return decision._replace(verdicts=settled)

    async def _insert_inline(
        self, connection: Connection, lane: LaneRow, operator: Operator, bulk: InlineBulk
    ) -> None:
        await self._store.insert(
            connection,
            operator,
            bulk.order,
            bulk.counts,
            lane=lane.lane,
            recorded_at=lane.recorded_at,
            status="completed",
            differences=differences(bulk.items) if bulk.order.dry_run else None,
        )

    async def _admit(
        self,
        connection: Connection,
        lane: LaneRow,
        operator: Operator,
        admission: Admission,
        verdict: Verdict,
    ) -> Verdict:
        total = admission.total or 0
        if admission.filter is not None:
            total = await self._store.admit_filter(
                connection, operator, admission.filter, admission.expected_versions
            )
            if total > BULK_FILTER_ITEMS_MAX:
                return too_many(verdict, admission)
        elif admission.candidate_ids is not None:
            await self._store.admit_ids(
                connection, operator, admission.candidate_ids, admission.expected_versions
            )
        elif admission.retries is not None:
            total = await self._store.admit_failed(connection, operator, admission.retries)
        await self._store.insert(
            connection,
            operator,
            admission.order,
            Counts(total, pending=total),
            lane=lane.lane,
            recorded_at=lane.recorded_at,
            status="running",
            parent_id=admission.retries,
            chosen=admission.filter,
            differences=[] if admission.order.dry_run else None,
        )
        return verdict


def operator_of(item: Item, operation_id: str) -> Operator:
    """Whose operation a command begins."""
    return Operator(
        item.organization_id or "", operation_id, item.command_id or "", item.source or "",
        item.actor or "", item.traceparent, item.tracestate, item.type or "",
    )  # fmt: skip
