"""The shapes of answers, for the OpenAPI document; nothing is validated by them at run time."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from domain.outcomes import DeadLetterCode, Outcome, Reason


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
    sequence: NotRequired[int]
    settled_at: NotRequired[str]
    lag: NotRequired[int]
    error_code: NotRequired[DeadLetterCode]
    recorded_at: NotRequired[str]


class HealthDocument(TypedDict):
    """What was looked at, and how it is."""

    status: str
    checks: dict[str, Any]
