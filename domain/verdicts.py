"""What `decide` says of commands and of the items of bulk operations, as plain values."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from domain.candidate import BulkChanges, CandidateState
from domain.commands import OnConflict
from domain.filters import CandidateFilter
from domain.outcomes import ItemOutcome, OperationStatus, Outcome, Reason

CandidateKey = tuple[str, str]
"""`(organization_id, candidate_id)`."""


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
    `bulk` is what a bulk or control command does besides; `erasure`, what an erase command does.
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
    bulk: "InlineBulk | Admission | Steering | None" = None
    erasure: "Erasure | None" = None


class Erasure(NamedTuple):
    """A candidate that goes: its row is deleted, its id is blocked.

    Attributes:
        seen_version: of its row; None if that is not written yet.
    """

    key: CandidateKey
    seen_version: int | None
    reason: str


class BulkItem(NamedTuple):
    """What became of one candidate of a bulk operation.

    Attributes:
        verdict: as if it had been a command by itself; its change is kept, unless it is a dry run.
    """

    candidate_id: str
    outcome: ItemOutcome
    verdict: Verdict


class Counts(NamedTuple):
    """The items of an operation by outcome; all but `total` add up to it."""

    total: int
    applied: int = 0
    unchanged: int = 0
    conflict: int = 0
    not_found: int = 0
    invalid: int = 0
    cancelled: int = 0
    pending: int = 0

    def settle(self, items: Iterable[BulkItem]) -> "Counts":
        """With these items no longer pending."""
        settled = Counter(item.outcome for item in items)
        counts = self._asdict()
        for outcome, number in settled.items():
            counts[outcome] += number
        counts["pending"] -= settled.total()
        return Counts(**counts)

    @property
    def failed(self) -> int:
        return self.conflict + self.not_found + self.invalid


class Order(NamedTuple):
    """What a bulk operation does to each of its candidates."""

    changes: BulkChanges
    on_conflict: OnConflict
    dry_run: bool


class InlineBulk(NamedTuple):
    """A bulk command that was decided within its batch; the operation is over."""

    operation_id: str
    order: Order
    items: list[BulkItem]
    counts: Counts


class Admission(NamedTuple):
    """A bulk operation that begins, its items named by exactly one of the three.

    Attributes:
        total: how many items; None for a filter, which only the database can count.
        retries: whose failed items these are; the order is that operation's, too.
    """

    operation_id: str
    order: Order
    total: int | None
    candidate_ids: list[str] | None = None
    filter: CandidateFilter | None = None
    retries: str | None = None
    expected_versions: dict[str, int] | None = None


class Steering(NamedTuple):
    """A control command: the operation that it names, and the status it gets, if another one."""

    operation_id: str
    status: OperationStatus | None = None


class Operation(NamedTuple):
    """What a decision may see of a bulk operation.

    Attributes:
        ended: nothing of it is left to be done.
        expired: it ended so long ago that its items may be gone.
    """

    order: Order
    status: OperationStatus
    counts: Counts
    ended: bool
    expired: bool = False
