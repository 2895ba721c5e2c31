"""The data of every event that we write, as types (CONTRACT.md 5): what the JSON Schemas are made
of. Absent means absent: only what is `| None` here is ever null. Fields may be added, so a reader
ignores what it does not know.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from contract.events import (
    COMPLETED,
    CREATED,
    DEAD_LETTERED,
    ERASED,
    PROGRESSED,
    REPAIRED,
    REROUTED,
    SETTLED,
    UPDATED,
)
from domain.field_errors import ErrorCode
from domain.fields import (
    Attributes,
    Email,
    Name,
    Phone,
    Rating,
    Source,
    Stage,
    Status,
    Tags,
    Version,
)
from domain.limits import COMMAND_ID_CHARACTERS_MAX, NUMBER_MAX
from domain.outcomes import DeadLetterCode, FailedReason, OperationStatus, Outcome, Reason

_STRICT = ConfigDict(strict=True)

Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
    Field(json_schema_extra={"format": "uuid"}),
]
Time = Annotated[
    str,
    StringConstraints(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?Z$"
    ),
    Field(json_schema_extra={"format": "date-time"}),
]
CommandId = Annotated[str, StringConstraints(min_length=1, max_length=COMMAND_ID_CHARACTERS_MAX)]
Sequence = Annotated[int, Field(ge=1, le=NUMBER_MAX)]
Partition = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


@with_config(_STRICT)
class InvalidField(TypedDict):
    """One thing that is wrong with a command; `pointer` is RFC 6901, into its data."""

    pointer: str
    code: ErrorCode
    detail: str


@with_config(_STRICT)
class Original(TypedDict):
    """How a duplicate's command was settled the first time; `id` is that result's `ce_id`."""

    id: str
    outcome: Outcome
    reason: NotRequired[Reason]
    version: NotRequired[Version]


# A function call, as `from` is a keyword.
FieldChange = TypedDict("FieldChange", {"from": Any, "to": Any})


@with_config(_STRICT)
class Counts(TypedDict):
    """The items of a bulk operation by what became of them: all but `total` add up to it."""

    total: Count
    applied: Count
    unchanged: Count
    conflict: Count
    not_found: Count
    invalid: Count
    cancelled: Count
    pending: Count


@with_config(_STRICT)
class FailedItem(TypedDict):
    """A candidate that a bulk command did not change, though it was to."""

    candidate_id: Uuid
    reason: FailedReason
    current_version: NotRequired[Version]
    fields: NotRequired[list[str]]
    errors: NotRequired[list[InvalidField]]


@with_config(_STRICT)
class Difference(TypedDict):
    """What a dry run would change of one candidate."""

    candidate_id: Uuid
    version: Version
    changed: dict[str, FieldChange]


@with_config(_STRICT)
class Settled(TypedDict):
    """How one command was settled: exactly one for each command."""

    command_id: CommandId
    command_source: CommandId
    command_type: str
    organization_id: Uuid
    candidate_id: NotRequired[Uuid]
    operation_id: NotRequired[Uuid]
    outcome: Outcome
    reason: NotRequired[Reason]
    version: NotRequired[Version]
    previous_version: NotRequired[Version]
    detail: NotRequired[str]
    current_version: NotRequired[Version]
    fields: NotRequired[list[str]]
    errors: NotRequired[list[InvalidField]]
    original: NotRequired[Original]
    counts: NotRequired[Counts]
    failed: NotRequired[list[FailedItem]]
    differences: NotRequired[list[Difference]]
    erased: NotRequired[Literal[True]]
    """Some of this answer was about a candidate that has been erased since, and is left out."""
    sequence: Sequence
    settled_at: Time


@with_config(_STRICT)
class Origin(TypedDict):
    """Where a record of the commands topic stands."""

    topic: str
    partition: Partition
    offset: Annotated[int, Field(ge=0)]


@with_config(_STRICT)
class Rerouted(TypedDict):
    """A command arrived on another partition than its organization's; its result follows there."""

    origin: Origin
    command_id: CommandId
    command_source: CommandId
    command_type: str
    organization_id: Uuid
    sequence: Sequence
    recorded_at: Time
    from_partition: Partition
    to_partition: Partition


@with_config(_STRICT)
class DeadLettered(TypedDict):
    """No result could answer a record: it is in the dead letters, as it was."""

    origin: Origin
    command_id: NotRequired[CommandId]
    command_source: NotRequired[CommandId]
    command_type: NotRequired[str]
    organization_id: NotRequired[Uuid]
    sequence: Sequence
    recorded_at: Time
    error_code: DeadLetterCode


@with_config(_STRICT)
class Candidate(TypedDict):
    """One version of a candidate, whole, every value in its stored form."""

    organization_id: Uuid
    candidate_id: Uuid
    first_name: Name
    last_name: Name
    email: Email
    phone: Phone | None
    status: Status
    pipeline_stage: Stage | None
    rating: Rating | None
    source: Source | None
    tags: Tags
    attributes: Attributes
    version: Version
    created_at: Time
    updated_at: Time


@with_config(_STRICT)
class Created(TypedDict):
    """The first version of a candidate."""

    organization_id: Uuid
    candidate_id: Uuid
    version: Version
    previous_version: None
    changed: dict[str, FieldChange]
    state: Candidate
    actor: str | None
    command_id: CommandId
    command_source: CommandId
    sequence: Sequence
    recorded_at: Time


@with_config(_STRICT)
class Updated(TypedDict):
    """A later version of a candidate; the newest record of a key is its current state."""

    organization_id: Uuid
    candidate_id: Uuid
    version: Version
    previous_version: Version
    changed: dict[str, FieldChange]
    state: Candidate
    actor: str | None
    command_id: CommandId
    command_source: CommandId
    operation_id: NotRequired[Uuid]
    sequence: Sequence
    recorded_at: Time


@with_config(_STRICT)
class Progressed(TypedDict):
    """A chunk of a bulk operation is done; `command_id` is that of the command that began it."""

    operation_id: Uuid
    organization_id: Uuid
    command_id: CommandId
    command_source: CommandId
    status: OperationStatus
    counts: Counts
    sequence: Sequence
    recorded_at: Time


@with_config(_STRICT)
class Completed(Progressed):
    """A bulk operation has ended: nothing of it is pending."""


@with_config(_STRICT)
class Erased(TypedDict):
    """A candidate's data is unreadable everywhere; `command_id` is that of the erase command.

    `journal_rows`, `operations` and `dead_letters` count what was emptied or removed.
    """

    organization_id: Uuid
    candidate_id: Uuid
    command_id: CommandId
    command_source: CommandId
    accepted_at: Time
    journal_rows: Count
    operations: Count
    dead_letters: Count
    sequence: Sequence
    recorded_at: Time


@with_config(_STRICT)
class Repaired(TypedDict):
    """The row of a candidate was made again what the journal says; no new version.

    `version` is null where the candidate has no history, so that the row was removed.
    """

    organization_id: Uuid
    candidate_id: Uuid
    version: Version | None
    actor: str
    fields: list[str]
    sequence: Sequence
    recorded_at: Time


EVENTS: dict[str, Any] = {
    SETTLED: Settled,
    REROUTED: Rerouted,
    DEAD_LETTERED: DeadLettered,
    CREATED: Created,
    UPDATED: Updated,
    PROGRESSED: Progressed,
    COMPLETED: Completed,
    ERASED: Erased,
    REPAIRED: Repaired,
}
"""The type of `data` of each event."""
