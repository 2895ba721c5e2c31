"""The shapes of answers about bulk updates and bulk operations, for the OpenAPI document."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from api.schemas import CountsDocument, DifferenceDocument, ErrorDocument, FailedDocument
from domain.outcomes import ItemOutcome, OperationStatus


class BulkAnswer(TypedDict):
    """What a bulk update did. `success`: no candidate failed, as far as it is known."""

    success: bool
    updated_count: int
    failed_ids: list[str]
    operation_id: str
    status: Literal["pending", "completed"]
    counts: NotRequired[CountsDocument]
    failed: NotRequired[list[FailedDocument]]
    differences: NotRequired[list[DifferenceDocument]]


class OperationDocument(TypedDict):
    """A bulk operation."""

    organization_id: str
    operation_id: str
    parent_id: NotRequired[str]
    command_id: str
    command_source: str
    actor: str
    type: str
    changes: dict[str, Any]
    filter: NotRequired[dict[str, Any]]
    on_conflict: Literal["reject", "merge", "overwrite"]
    dry_run: bool
    status: OperationStatus
    counts: CountsDocument
    percentage: float
    items_per_second: float | None
    seconds_left: float | None
    differences: NotRequired[list[DifferenceDocument]]
    error: NotRequired[str]
    created_at: str
    updated_at: str
    completed_at: str | None


class PendingOperationDocument(TypedDict):
    """An operation whose command's turn has not come; `lag`: records until it has."""

    organization_id: str
    operation_id: str
    command_id: str
    status: Literal["pending"]
    lag: int


class OperationsPage(TypedDict):
    """Operations, newest first."""

    items: list[OperationDocument]
    next_cursor: str | None


class OperationItem(TypedDict):
    """One candidate of an operation; a failed one with what a single command would be told."""

    ordinal: int
    candidate_id: str
    outcome: ItemOutcome | Literal["pending"]
    version: NotRequired[int]
    current_version: NotRequired[int]
    fields: NotRequired[list[str]]
    errors: NotRequired[list[ErrorDocument]]


class OperationItemsPage(TypedDict):
    """Items in the operation's order."""

    items: list[OperationItem]
    next_cursor: str | None
