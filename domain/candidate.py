"""The candidate of CONTRACT.md 4 as JSON-ready plain data, fields in the contract's order.

Ids are canonical lower-case UUIDs, times RFC 3339 with `Z`; values are in their stored form.
"""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, with_config
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

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
    attributes_error,
    some_members,
)

__all__ = [
    "WRITABLE_FIELDS",
    "BulkChanges",
    "CandidateState",
    "Changes",
    "NewCandidate",
    "TagEdit",
    "attributes_error",
]


class CandidateState(TypedDict):
    """One version of a candidate, whole."""

    organization_id: str
    candidate_id: str
    first_name: str
    last_name: str
    email: str
    phone: str | None
    status: Status
    pipeline_stage: str | None
    rating: int | None
    source: str | None
    tags: list[str]
    attributes: dict[str, Any]
    version: int
    created_at: str
    updated_at: str


@with_config(ConfigDict(extra="forbid", strict=True))
class NewCandidate(TypedDict):
    """The writable fields of a candidate to be created; once validated, all are there."""

    first_name: Name
    last_name: Name
    email: Email
    phone: NotRequired[Annotated[Phone | None, Field(default=None)]]
    status: NotRequired[Annotated[Status, Field(default="new")]]
    pipeline_stage: NotRequired[Annotated[Stage | None, Field(default=None)]]
    rating: NotRequired[Annotated[Rating | None, Field(default=None)]]
    source: NotRequired[Annotated[Source | None, Field(default=None)]]
    tags: NotRequired[Annotated[Tags, Field(default_factory=list)]]
    attributes: NotRequired[Annotated[Attributes, Field(default_factory=dict)]]


@with_config(ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1}))
class TagEdit(TypedDict, total=False):
    """Tags to add and to remove; the others stay."""

    add: Tags
    remove: Tags


def _tags_form(tags: object) -> Literal["list", "edit"] | None:
    if isinstance(tags, list):
        return "list"
    return "edit" if isinstance(tags, dict) else None


TagsChange = Annotated[
    Annotated[Tags, Tag("list")] | Annotated[TagEdit, BeforeValidator(some_members), Tag("edit")],
    Discriminator(_tags_form),
]


@with_config(ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1}))
class Changes(TypedDict, total=False):
    """An RFC 7396 patch: absent keeps, null clears, a value sets; `attributes` merges by key."""

    first_name: Name
    last_name: Name
    email: Email
    phone: Phone | None
    status: Status
    pipeline_stage: Stage | None
    rating: Rating | None
    source: Source | None
    tags: TagsChange
    attributes: Attributes


@with_config(ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1}))
class BulkChanges(TypedDict, total=False):
    """As `Changes`, of the fields that may be changed in bulk."""

    status: Status
    pipeline_stage: Stage | None
    rating: Rating | None
    source: Source | None
    tags: TagsChange


WRITABLE_FIELDS: tuple[str, ...] = tuple(Changes.__annotations__)
