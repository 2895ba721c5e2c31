"""Decide: what each submission of a batch does, in input order, in memory.

Pure and total: no clock, no random, no I/O, one verdict for each submission. Submissions see each
other's effect through the snapshot's own copy of the state, so any split of a history into
batches decides the same.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

from domain.bulk import control, update_in_bulk
from domain.candidate import CandidateState
from domain.commands import (
    BulkUpdateCandidates,
    Command,
    ControlBulkOperation,
    CreateCandidate,
    EraseCandidate,
    FieldError,
    UpdateCandidate,
)
from domain.identity import Identity, operation_id_of, uuid7_prefix, uuid7_time
from domain.verdicts import CandidateKey, Change, Erasure, Operation, Settled, Verdict
from domain.working import Working, invalid

__all__ = [
    "CandidateKey",
    "Change",
    "Decision",
    "Settled",
    "Snapshot",
    "Submission",
    "Verdict",
    "decide",
]

_NO_OPERATIONS: Mapping[CandidateKey, Operation] = MappingProxyType({})


class Submission(NamedTuple):
    """One command as a lane received it. `command` is None where `errors` tell why; `candidate` is
    whom it names nevertheless.
    """

    identity: Identity
    key: str
    digest: bytes
    command: Command | None
    errors: tuple[FieldError, ...] = ()
    candidate: CandidateKey | None = None


class Snapshot(NamedTuple):
    """What a decision may look at, read in the lane's transaction.

    `history` holds, for candidates named by a `merge`, the fields changed by each version;
    `operations`, by organization and id, those that a control or bulk command names; `refused`,
    candidates of bulk commands whose new state the database does not take; `erased`, those of the
    named candidates that were erased.
    """

    settled: dict[str, Settled]
    candidates: dict[CandidateKey, CandidateState]
    history: dict[CandidateKey, dict[int, frozenset[str]]]
    operations: Mapping[CandidateKey, Operation] = _NO_OPERATIONS
    refused: frozenset[CandidateKey] = frozenset()
    erased: Collection[CandidateKey] = ()


class Decision(NamedTuple):
    """Everything to be written: verdicts in input order, and each touched candidate once."""

    verdicts: list[Verdict]
    created: list[CandidateState]
    updated: list[tuple[int, CandidateState]]
    """`(version seen in the snapshot, new state)`."""
    erased: list[Erasure]


def decide(
    submissions: Sequence[Submission],
    snapshot: Snapshot,
    *,
    lane: int,
    result_sequences: Sequence[int],
    recorded_at: datetime,
    recorded_at_text: str,
    deduplication_horizon: timedelta,
) -> Decision:
    """Settle every submission, in order.

    Args:
        result_sequences: the sequence that each submission's result will have, so that a
            duplicate within the batch can name its original.
        recorded_at: the database's clock, one instant for the batch.
        recorded_at_text: the same instant as RFC 3339, as it goes into state and events.
    """
    settled = dict(snapshot.settled)
    work = Working(snapshot.candidates, snapshot.history, recorded_at_text, snapshot.erased)
    oldest = (recorded_at - deduplication_horizon).timestamp()
    oldest_prefix = uuid7_prefix(oldest)
    verdicts: list[Verdict] = []
    for submission, sequence in zip(submissions, result_sequences, strict=True):
        verdict = (
            _too_old(submission.identity.command_id, oldest, oldest_prefix)
            or _repeated(submission, settled.get(submission.key))
            or _settle(submission, work, snapshot)
        )
        verdicts.append(verdict)
        if verdict.settles:
            settled[submission.key] = Settled(
                submission.digest, lane, sequence, verdict.outcome, verdict.reason, verdict.version
            )
    created, updated = work.written()
    return Decision(verdicts, created, updated, work.erasures)


def _settle(submission: Submission, work: Working, snapshot: Snapshot) -> Verdict:
    command = submission.command
    if isinstance(command, UpdateCandidate):
        key = (command.organization_id, command.candidate_id)
        verdict = work.update(key, command.changes, command.expected_version, command.on_conflict)
        if verdict.reason == "not_found":
            return work.missing(key)
    elif isinstance(command, CreateCandidate):
        key = (command.organization_id, command.candidate_id)
        verdict = work.create(command)
    elif isinstance(command, EraseCandidate):
        return work.erase(command)
    elif command is None:
        if submission.candidate is not None and work.was_erased(submission.candidate):
            return work.missing(submission.candidate)
        return invalid(submission.errors)
    else:
        return _settle_bulk(command, operation_id_of(submission.key), work, snapshot)
    if verdict.change is not None:
        work.keep(key, verdict.change)
    return verdict


def _settle_bulk(
    command: BulkUpdateCandidates | ControlBulkOperation,
    operation_id: str,
    work: Working,
    snapshot: Snapshot,
) -> Verdict:
    """`operation_id` is that of the operation which this command may begin."""
    if (command.organization_id, operation_id) in snapshot.operations:
        return _reused()  # by a command that deduplication no longer knows
    if isinstance(command, BulkUpdateCandidates):
        return update_in_bulk(command, operation_id, work, snapshot.refused)
    named = snapshot.operations.get((command.organization_id, command.operation_id))
    return control(command, None if named is None or named.expired else named, operation_id)


def _too_old(command_id: str, oldest: float, oldest_prefix: str) -> Verdict | None:
    if command_id[: len(oldest_prefix)] >= oldest_prefix:  # nearly every id, at a tenth of the cost
        return None
    made_at = uuid7_time(command_id)
    if made_at is None or made_at >= oldest:
        return None
    return Verdict(
        "rejected",
        "too_old",
        detail="The command's UUIDv7 is older than deduplication reaches back.",
        settles=False,
    )


def _repeated(submission: Submission, earlier: Settled | None) -> Verdict | None:
    if earlier is None:
        return None
    if earlier.digest == submission.digest:
        return Verdict("duplicate", original=earlier, settles=False)
    return _reused()


def _reused() -> Verdict:
    return Verdict(
        "rejected",
        "id_reused",
        detail="Another command of this organization and source has this id.",
        settles=False,
    )
