"""Commands in their validated, normalized form (CONTRACT.md 3), and the parser that makes them.

The parser is total: whatever JSON holds becomes a command or `InvalidCommand`. A command that
comes out holds no NUL, no lone surrogate and no number beyond 64 bits, in any place.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from domain.candidate import Changes, NewCandidate
from domain.field_errors import ERROR_CODES, ErrorCode, FieldError, InvalidCommand, list_errors
from domain.fields import PHONE_REGIONS, Actor, Uuid, Version, few_members, some_members

__all__ = [
    "COMMANDS",
    "ERROR_CODES",
    "KNOWN_TYPES",
    "Command",
    "CommandParser",
    "CreateCandidate",
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


Command: TypeAlias = CreateCandidate | UpdateCandidate

# One entry for each command type that is built: parser, schemas and `KNOWN_TYPES` follow it.
COMMANDS: Mapping[str, type[Command]] = {
    "candidate.create.v1": CreateCandidate,
    "candidate.update.v1": UpdateCandidate,
}
KNOWN_TYPES: frozenset[str] = frozenset(COMMANDS)


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
