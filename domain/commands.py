"""Commands in their validated, normalized form (CONTRACT.md 3), and the parser that makes them.

The parser is total: whatever JSON holds becomes a command or `InvalidCommand`. A command that
comes out holds no NUL, no lone surrogate and no number beyond 64 bits, in any place.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from domain.candidate import BulkChanges, Changes, NewCandidate
from domain.field_errors import ERROR_CODES, ErrorCode, FieldError, InvalidCommand, list_errors
from domain.fields import (
    PHONE_REGIONS,
    Actor,
    ErasureReason,
    Uuid,
    Version,
    few_members,
    some_members,
)
from domain.filters import CandidateFilter, folded
from domain.limits import BULK_CANDIDATE_IDS_MAX

__all__ = [
    "BULK_CONTROL",
    "BULK_TYPES",
    "BULK_UPDATE",
    "COMMANDS",
    "ERASE",
    "ERROR_CODES",
    "KNOWN_TYPES",
    "Action",
    "BulkUpdateCandidates",
    "Command",
    "CommandParser",
    "ControlBulkOperation",
    "CreateCandidate",
    "EraseCandidate",
    "ErrorCode",
    "FieldError",
    "InvalidCommand",
    "OnConflict",
    "UpdateCandidate",
]

OnConflict = Literal["reject", "merge", "overwrite"]


class CreateCandidate(BaseModel):
    """`candidate.create.v1`: a new candidate under an id that its sender chose."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    organization_id: Uuid
    candidate_id: Uuid
    actor: Actor
    candidate: Annotated[NewCandidate, BeforeValidator(few_members)]


class UpdateCandidate(BaseModel):
    """`candidate.update.v1`: changes to one candidate, if its version is the expected one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    organization_id: Uuid
    candidate_id: Uuid
    actor: Actor
    changes: Annotated[Changes, BeforeValidator(some_members)]
    expected_version: Version | None = None
    on_conflict: OnConflict = "reject"


class EraseCandidate(BaseModel):
    """`candidate.erase.v1`: a person's data becomes unreadable, the id stays blocked."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    organization_id: Uuid
    candidate_id: Uuid
    actor: Actor
    reason: ErasureReason


def _distinct_ids(ids: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(ids))
    if not distinct:
        raise PydanticCustomError("too_short", "At least one candidate is required.")
    if len(distinct) > BULK_CANDIDATE_IDS_MAX:
        raise PydanticCustomError(
            "too_long", f"At most {BULK_CANDIDATE_IDS_MAX} candidates are allowed."
        )
    return distinct


def _few_versions(versions: dict[str, int]) -> dict[str, int]:
    if len(versions) > BULK_CANDIDATE_IDS_MAX:
        raise PydanticCustomError(
            "too_long", f"At most {BULK_CANDIDATE_IDS_MAX} versions are allowed."
        )
    return versions


_IDS_FORM: dict[str, Any] = {"minItems": 1, "maxItems": BULK_CANDIDATE_IDS_MAX}
_ONE_OF: dict[str, Any] = {
    "oneOf": [{"required": ["candidate_ids"]}, {"required": ["filter"]}],
}


class BulkUpdateCandidates(BaseModel):
    """`candidate.bulk-update.v1`: the same changes to many candidates, each decided by itself.

    `candidate_ids` are distinct and in the order of their first mention.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_ONE_OF)
    candidate_id: ClassVar[None] = None

    organization_id: Uuid
    actor: Actor
    changes: Annotated[BulkChanges, BeforeValidator(some_members)]
    candidate_ids: (
        Annotated[
            list[Uuid],
            Field(fail_fast=True, description="Repeats count once.", json_schema_extra=_IDS_FORM),
            AfterValidator(_distinct_ids),
        ]
        | None
    ) = None
    filter: (
        Annotated[CandidateFilter, BeforeValidator(some_members), BeforeValidator(folded)] | None
    ) = None
    expected_versions: (
        Annotated[dict[Uuid, Version], Field(fail_fast=True), AfterValidator(_few_versions)] | None
    ) = None
    on_conflict: OnConflict = "reject"
    dry_run: bool = False

    @model_validator(mode="after")
    def _names_candidates(self) -> Self:
        if self.candidate_ids is None and self.filter is None:
            raise PydanticCustomError("missing", "One of candidate_ids and filter is required.")
        if self.candidate_ids is not None and self.filter is not None:
            raise PydanticCustomError(
                "malformed", "Only one of candidate_ids and filter is allowed."
            )
        unnamed = {*(self.expected_versions or ())}.difference(self.candidate_ids or ())
        if self.candidate_ids is not None and unnamed:
            raise PydanticCustomError(
                "malformed", "expected_versions name candidates that candidate_ids do not."
            )
        return self


Action = Literal["pause", "resume", "cancel", "retry_failed"]


class ControlBulkOperation(BaseModel):
    """`bulk-operation.control.v1`: steers a bulk operation that goes on, or retries one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    candidate_id: ClassVar[None] = None

    organization_id: Uuid
    actor: Actor
    operation_id: Uuid
    action: Action


Command: TypeAlias = (
    CreateCandidate | UpdateCandidate | EraseCandidate | BulkUpdateCandidates | ControlBulkOperation
)

CREATE = "candidate.create.v1"
ERASE = "candidate.erase.v1"

BULK_UPDATE = "candidate.bulk-update.v1"
BULK_CONTROL = "bulk-operation.control.v1"

# One entry for each command type that is built: parser, schemas and `KNOWN_TYPES` follow it.
COMMANDS: Mapping[str, type[Command]] = {
    CREATE: CreateCandidate,
    "candidate.update.v1": UpdateCandidate,
    ERASE: EraseCandidate,
    BULK_UPDATE: BulkUpdateCandidates,
    BULK_CONTROL: ControlBulkOperation,
}
KNOWN_TYPES: frozenset[str] = frozenset(COMMANDS)
BULK_TYPES: frozenset[str] = frozenset({BULK_UPDATE, BULK_CONTROL})


class CommandParser:
    """Makes commands of parsed JSON; built once, its validators are compiled.

    Args:
        phone_region: the region (ISO 3166-1 alpha-2) of phone numbers without `+`; None
            refuses them.

    Raises:
        ValueError: `phone_region` is not a region.
    """

    def __init__(self, *, phone_region: str | None = None) -> None:
        if phone_region is not None and phone_region not in PHONE_REGIONS:
            raise ValueError("phone_region is not a two-letter region in capitals")
        self._phone_region = phone_region
        self._validators = {
            # A type made at run time is beyond mypy.
            command_type: TypeAdapter(Annotated[model, BeforeValidator(few_members)]).validator  # type: ignore[arg-type]
            for command_type, model in COMMANDS.items()
        }

    def parse(self, command_type: str, data: Mapping[str, object]) -> Command:
        """The command that `data`, a JSON object as parsed, stands for.

        Raises:
            InvalidCommand: `data` breaks a rule; all its errors, up to a bound.
            KeyError: `command_type` is not one of `KNOWN_TYPES`.
        """
        validator = self._validators[command_type]
        try:
            return cast(Command, validator.validate_python(data, context=self._phone_region))
        except ValidationError as refusal:
            raise InvalidCommand(list_errors(refusal, data)) from None
