"""Bulk operations: what becomes of each candidate, and of the operation as a whole.

Each item is decided by the code of a single update, so a bulk equals the same changes sent singly.
The candidates of one bulk are distinct, so their decisions do not depend on one another.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from domain.candidate import Changes
from domain.commands import BulkUpdateCandidates, ControlBulkOperation
from domain.limits import (
    BULK_DIFFERENCES_MAX,
    BULK_FILTER_ITEMS_MAX,
    BULK_INLINE_ITEMS_MAX,
    MERGE_HISTORY_VERSIONS_MAX,
)
from domain.outcomes import ItemOutcome, OperationStatus
from domain.verdicts import (
    Admission,
    BulkItem,
    CandidateKey,
    Counts,
    InlineBulk,
    Operation,
    Order,
    Steering,
    Verdict,
)
from domain.working import Working

_FAILED: Mapping[str | None, ItemOutcome] = {
    "version_conflict": "conflict",
    "not_found": "not_found",
    "invalid": "invalid",
    "erased": "not_found",
}
_REFUSED = Verdict(
    "rejected",
    "invalid",
    detail="The database refuses it.",
    details={
        "errors": [
            {"pointer": "/changes", "code": "malformed", "detail": "The database refuses it."}
        ]
    },
)


def update_in_bulk(
    command: BulkUpdateCandidates,
    operation_id: str,
    work: Working,
    refused: frozenset[CandidateKey] = frozenset(),
) -> Verdict:
    """Decide a bulk of few candidates; take on one of many, by filter, or of long histories.

    The answer is `applied` if any candidate changed, else `unchanged`: the command itself was
    right, and `counts` and `failed` account for every item. A dry run changes none.
    """
    order = Order(command.changes, command.on_conflict, command.dry_run)
    ids = command.candidate_ids
    expected = command.expected_versions or {}
    if ids is None or len(ids) > BULK_INLINE_ITEMS_MAX or _looks_far_back(command, ids, work):
        return Verdict(
            "accepted",
            bulk=Admission(
                operation_id,
                order,
                None if ids is None else len(ids),
                candidate_ids=ids,
                filter=command.filter,
                expected_versions=command.expected_versions,
            ),
        )
    versions = [expected.get(candidate_id) for candidate_id in ids]
    items = decide_items(order, command.organization_id, ids, versions, work, refused)
    counts = Counts(len(ids), pending=len(ids)).settle(items)
    details: dict[str, Any] = {"counts": counts._asdict()}
    if failed := failed_items(items):
        details["failed"] = failed
    if order.dry_run:
        details["differences"] = differences(items)
    applied = counts.applied > 0 and not order.dry_run
    return Verdict(
        "applied" if applied else "unchanged",
        details=details,
        bulk=InlineBulk(operation_id, order, items, counts),
    )


def _looks_far_back(command: BulkUpdateCandidates, ids: Sequence[str], work: Working) -> bool:
    """Must it know more versions than one transaction may read?"""
    if command.on_conflict != "merge":
        return False
    expected = command.expected_versions or {}
    versions = (
        work.versions_behind((command.organization_id, candidate_id), expected.get(candidate_id))
        for candidate_id in ids
    )
    return sum(versions) > MERGE_HISTORY_VERSIONS_MAX


def too_many(verdict: Verdict, admission: Admission) -> Verdict:
    """What becomes of an admission whose filter matches more than an operation may have."""
    return verdict._replace(
        outcome="rejected",
        reason="too_many",
        detail=f"The filter matches more than {BULK_FILTER_ITEMS_MAX} candidates.",
        bulk=Steering(admission.operation_id),
    )


def decide_items(
    order: Order,
    organization_id: str,
    candidate_ids: Sequence[str],
    expected_versions: Iterable[int | None],
    work: Working,
    refused: frozenset[CandidateKey] = frozenset(),
) -> list[BulkItem]:
    """Decide candidates of one organization, in order; their changes are kept in `work`.

    Args:
        expected_versions: one for each candidate.
        refused: candidates whose new state the database does not take.
    """
    changes, on_conflict, dry_run = cast(Changes, order.changes), order.on_conflict, order.dry_run
    items: list[BulkItem] = []
    for candidate_id, expected in zip(candidate_ids, expected_versions, strict=True):
        key = organization_id, candidate_id
        verdict = work.update(key, changes, expected, on_conflict)
        outcome: ItemOutcome = "unchanged"
        change = verdict.change
        if change is not None and key in refused:
            verdict, outcome = _REFUSED, "invalid"
        elif change is not None:
            outcome = "applied"
            if dry_run:
                verdict = verdict._replace(version=change.previous_version)
            else:
                work.keep(key, change)
        elif verdict.outcome == "rejected":
            outcome = _FAILED[verdict.reason]
        items.append(BulkItem(candidate_id, outcome, verdict))
    return items


def cancelled_items(candidate_ids: Iterable[str]) -> list[BulkItem]:
    """Items of an operation that was cancelled before their turn came."""
    return [BulkItem(each, "cancelled", Verdict("unchanged")) for each in candidate_ids]


def failed_items(items: Iterable[BulkItem]) -> list[dict[str, Any]]:
    """What the result tells of those that could not be changed."""
    return [
        {
            "candidate_id": item.candidate_id,
            "reason": item.verdict.reason,
            **(item.verdict.details or {}),
        }
        for item in items
        if item.verdict.outcome == "rejected"
    ]


def differences(items: Iterable[BulkItem]) -> list[dict[str, Any]]:
    """What a dry run would change, the first of it."""
    found: list[dict[str, Any]] = []
    for item in items:
        if item.verdict.change is None:
            continue
        if len(found) == BULK_DIFFERENCES_MAX:
            break
        found.append(
            {
                "candidate_id": item.candidate_id,
                "version": item.verdict.previous_version,
                "changed": item.verdict.change.changed,
            }
        )
    return found


def status_after(status: OperationStatus, counts: Counts) -> OperationStatus:
    """The status once some items are settled: completed with the last, unless cancelled."""
    return "completed" if status == "running" and not counts.pending else status


def control(command: ControlBulkOperation, operation: Operation | None, child_id: str) -> Verdict:
    """Steer an operation, or try its failed items again.

    Args:
        operation: the one that the command names, if there is such a one.
        child_id: the id of the operation that a retry begins.
    """
    if command.action == "retry_failed":
        return _retry(command, operation, child_id)
    steering = Steering(command.operation_id)
    # With nothing pending it only waits for its turn to say so: there is nothing to steer.
    if operation is None or not operation.counts.pending or operation.status == "cancelled":
        return Verdict(
            "rejected",
            "operation_closed",
            detail="There is no such operation, or it is over.",
            bulk=steering,
        )
    wanted: dict[str, OperationStatus] = {
        "pause": "paused",
        "resume": "running",
        "cancel": "cancelled",
    }
    status = wanted[command.action]
    if status == operation.status:
        return Verdict("unchanged", bulk=steering)
    return Verdict("applied", bulk=steering._replace(status=status))


def _retry(command: ControlBulkOperation, operation: Operation | None, child_id: str) -> Verdict:
    steering = Steering(command.operation_id)
    if operation is None:
        return Verdict(
            "rejected", "operation_closed", detail="There is no such operation.", bulk=steering
        )
    if not operation.ended:
        return Verdict(
            "rejected",
            "not_allowed",
            detail="The operation goes on: its failed items are known when it has ended.",
            bulk=steering,
        )
    failed = operation.counts.failed
    if not failed:
        return Verdict("unchanged", detail="No item of the operation failed.", bulk=steering)
    return Verdict(
        "accepted",
        bulk=Admission(child_id, operation.order, failed, retries=command.operation_id),
    )
