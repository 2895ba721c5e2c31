"""The shapes of answers, for the OpenAPI document; nothing is validated by them at run time."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from domain.candidate import CandidateState
from domain.outcomes import DeadLetterCode, FailedReason, Outcome, Reason


class ErrorDocument(TypedDict):
    """One thing that is wrong with an invalid command."""

    pointer: str
    code: str
    detail: str


class OriginalDocument(TypedDict):
    """How a duplicate was settled the first time."""

    id: str
    outcome: Outcome
    reason: NotRequired[Reason]
    version: NotRequired[int]


# A function call, as `from` is a keyword.
ChangedDocument = TypedDict("ChangedDocument", {"from": Any, "to": Any})


class CountsDocument(TypedDict):
    """The items by what became of them: all but `total` add up to it."""

    total: int
    applied: int
    unchanged: int
    conflict: int
    not_found: int
    invalid: int
    cancelled: int
    pending: int


class FailedDocument(TypedDict):
    """A candidate that was not changed, and why."""

    candidate_id: str
    reason: FailedReason
    current_version: NotRequired[int]
    fields: NotRequired[list[str]]
    errors: NotRequired[list[ErrorDocument]]


class DifferenceDocument(TypedDict):
    """What a dry run would change of one candidate."""

    candidate_id: str
    version: int
    changed: dict[str, ChangedDocument]


class CommandDocument(TypedDict):
    """A result event's data; or `pending` with `lag`; or `dead_lettered` with `error_code`."""

    command_id: str
    organization_id: str
    outcome: Outcome | Literal["pending", "dead_lettered"]
    command_source: NotRequired[str]
    command_type: NotRequired[str]
    candidate_id: NotRequired[str]
    reason: NotRequired[Reason]
    detail: NotRequired[str]
    version: NotRequired[int]
    previous_version: NotRequired[int]
    current_version: NotRequired[int]
    fields: NotRequired[list[str]]
    errors: NotRequired[list[ErrorDocument]]
    original: NotRequired[OriginalDocument]
    operation_id: NotRequired[str]
    counts: NotRequired[CountsDocument]
    failed: NotRequired[list[FailedDocument]]
    differences: NotRequired[list[DifferenceDocument]]
    sequence: NotRequired[int]
    settled_at: NotRequired[str]
    lag: NotRequired[int]
    error_code: NotRequired[DeadLetterCode]
    recorded_at: NotRequired[str]


class CandidatesDocument(TypedDict):
    """A page of candidates; the end is where `next_cursor` is null."""

    items: list[CandidateState]
    next_cursor: str | None


class StepDocument(TypedDict):
    """One version of a candidate; `changed` is null where it is no longer known."""

    version: int
    previous_version: int | None
    changed: dict[str, ChangedDocument] | None
    actor: str | None
    command_id: str | None
    command_source: str | None
    command_type: str | None
    operation_id: NotRequired[str]
    recorded_at: str


class HistoryDocument(TypedDict):
    """A page of a candidate's versions, newest first."""

    items: list[StepDocument]
    next_cursor: str | None


class ChangeDocument(TypedDict):
    """A change event in CloudEvents' JSON format; `data` is null where the candidate is erased."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: str
    subject: str
    sequence: str
    dataschema: NotRequired[str]
    datacontenttype: NotRequired[str]
    correlationid: NotRequired[str]
    traceparent: NotRequired[str]
    tracestate: NotRequired[str]
    cursor: str
    data: dict[str, Any] | None


class ChangesDocument(TypedDict):
    """A page of change events, oldest first; go on after `next_cursor`."""

    items: list[ChangeDocument]
    next_cursor: str


class HealthDocument(TypedDict):
    """What was looked at, and how it is."""

    status: str
    checks: dict[str, Any]
