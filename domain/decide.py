"""Decide: what each submission of a batch does, in input order, in memory.

Pure and total: no clock, no random, no I/O, one verdict for each submission. Submissions see each
other's effect through the snapshot's own copy of the state, so any split of a history into
batches decides the same.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from domain.candidate import CandidateState
from domain.commands import Command, CreateCandidate, FieldError, InvalidCommand, UpdateCandidate
from domain.identity import Identity, uuid7_prefix, uuid7_time
from domain.limits import MERGE_VERSIONS_MAX
from domain.merge import changed_fields
from domain.outcomes import Outcome, Reason

CandidateKey = tuple[str, str]
"""`(organization_id, candidate_id)`."""


class Submission(NamedTuple):
    """One command as a lane received it. `command` is None where `errors` tell why."""

    identity: Identity
    key: str
    digest: bytes
    command: Command | None
    errors: tuple[FieldError, ...] = ()


class Settled(NamedTuple):
    """How a command was settled, found again by its identity key."""

    digest: bytes
    lane: int
    result_sequence: int
    outcome: str
    reason: str | None
    version: int | None


class Change(NamedTuple):
    """One new version of one candidate."""

    previous_version: int | None
    changed: dict[str, dict[str, Any]]
    state: CandidateState


class Verdict(NamedTuple):
    """How one submission was settled. `details` is what only some results carry.

    `settles` is False where the identity is, or may be, settled by an earlier submission.
    """

    outcome: Outcome
    reason: Reason | None = None
    version: int | None = None
    previous_version: int | None = None
    detail: str | None = None
    details: dict[str, Any] | None = None
    original: Settled | None = None
    change: Change | None = None
    settles: bool = True


class Snapshot(NamedTuple):
    """What a decision may look at, read in the lane's transaction.

    `history` holds, for candidates named by a `merge`, the fields changed by each version.
    """

    settled: dict[str, Settled]
    candidates: dict[CandidateKey, CandidateState]
    history: dict[CandidateKey, dict[int, frozenset[str]]]


class Decision(NamedTuple):
    """Everything to be written: verdicts in input order, and each touched candidate once."""

    verdicts: list[Verdict]
    created: list[CandidateState]
    updated: list[tuple[int, CandidateState]]
    """`(version seen in the snapshot, new state)`."""


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
    work = _Working(snapshot, recorded_at_text)
    oldest = (recorded_at - deduplication_horizon).timestamp()
    oldest_prefix = uuid7_prefix(oldest)
    verdicts: list[Verdict] = []
    for submission, sequence in zip(submissions, result_sequences, strict=True):
        verdict = (
            _too_old(submission.identity.command_id, oldest, oldest_prefix)
            or _repeated(submission, settled.get(submission.key))
            or work.settle(submission)
        )
        verdicts.append(verdict)
        if verdict.settles:
            settled[submission.key] = Settled(
                submission.digest, lane, sequence, verdict.outcome, verdict.reason, verdict.version
            )
    return work.decision(verdicts)


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
    return Verdict(
        "rejected",
        "id_reused",
        detail="Another command of this organization and source has this id.",
        settles=False,
    )


class _Working:
    """The state in memory while a batch is decided."""

    def __init__(self, snapshot: Snapshot, now: str) -> None:
        self._seen = snapshot.candidates
        self._now = now
        self._states = dict(snapshot.candidates)
        self._history = snapshot.history
        self._changed_here: dict[CandidateKey, dict[int, Collection[str]]] = {}

    def decision(self, verdicts: list[Verdict]) -> Decision:
        created: list[CandidateState] = []
        updated: list[tuple[int, CandidateState]] = []
        for key in self._changed_here:
            seen = self._seen.get(key)
            if seen is None:
                created.append(self._states[key])
            else:
                updated.append((seen["version"], self._states[key]))
        return Decision(verdicts, created, updated)

    def settle(self, submission: Submission) -> Verdict:
        command = submission.command
        if command is None:
            return _invalid(submission.errors)
        key = (command.organization_id, command.candidate_id)
        state = self._states.get(key)
        if isinstance(command, CreateCandidate):
            return self._create(key, command, state)
        if state is None:
            return Verdict("rejected", "not_found", detail="No such candidate.")
        return self._update(key, command, state)

    def _create(
        self, key: CandidateKey, command: CreateCandidate, state: CandidateState | None
    ) -> Verdict:
        if state is not None:
            return Verdict(
                "rejected",
                "already_exists",
                detail="A candidate with this id exists.",
                details={"current_version": state["version"]},
            )
        new = cast(
            CandidateState,
            {
                "organization_id": command.organization_id,
                "candidate_id": command.candidate_id,
                **command.candidate,
                "version": 1,
                "created_at": self._now,
                "updated_at": self._now,
            },
        )
        changed = {
            name: {"from": None, "to": value}
            for name, value in command.candidate.items()
            if value is not None
        }
        return self._apply(key, "applied", None, new, changed)

    def _update(
        self, key: CandidateKey, command: UpdateCandidate, state: CandidateState
    ) -> Verdict:
        version = state["version"]
        expected = command.expected_version
        moved = expected is not None and expected != version
        if moved and command.on_conflict != "overwrite":
            fields = self._conflicting(key, command, version)
            if fields:
                return Verdict(
                    "rejected",
                    "version_conflict",
                    detail="The candidate is at another version than expected.",
                    details={"current_version": version, "fields": fields},
                )
        try:
            new_values = changed_fields(state, command.changes)
        except InvalidCommand as error:
            return _invalid(error.errors)
        if not new_values:
            return Verdict("unchanged", version=version, previous_version=version)
        old = cast(dict[str, Any], state)
        changed = {name: {"from": old[name], "to": value} for name, value in new_values.items()}
        new = cast(
            CandidateState,
            {**old, **new_values, "version": version + 1, "updated_at": self._now},
        )
        merged = moved and command.on_conflict == "merge"
        return self._apply(key, "merged" if merged else "applied", version, new, changed)

    def _conflicting(self, key: CandidateKey, command: UpdateCandidate, version: int) -> list[str]:
        """The named fields that stand against the command, empty when it may be merged."""
        named = list(command.changes)
        expected = cast(int, command.expected_version)
        if command.on_conflict == "reject" or expected > version:
            return named
        if version - expected > MERGE_VERSIONS_MAX:
            return named
        before, here = self._history.get(key, {}), self._changed_here.get(key, {})
        touched: set[str] = set()
        for step in range(expected + 1, version + 1):
            fields = here.get(step) or before.get(step)
            if fields is None:
                return named
            touched.update(fields)
        return [name for name in named if name in touched]

    def _apply(
        self,
        key: CandidateKey,
        outcome: Outcome,
        previous: int | None,
        state: CandidateState,
        changed: dict[str, dict[str, Any]],
    ) -> Verdict:
        self._states[key] = state
        self._changed_here.setdefault(key, {})[state["version"]] = changed
        change = Change(previous, changed, state)
        return Verdict(outcome, None, state["version"], previous, change=change)


def _invalid(errors: tuple[FieldError, ...]) -> Verdict:
    return Verdict(
        "rejected",
        "invalid",
        detail="The command breaks the rules listed in errors.",
        details={"errors": [error._asdict() for error in errors]},
    )
