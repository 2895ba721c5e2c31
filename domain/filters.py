"""Which candidates of an organization a bulk operation is about: CONTRACT.md 6's filters.

All that are named must hold. Names are those of the query parameters of `GET /candidates`;
`attribute.<name>` may also be a member of an object `attribute`.
"""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from domain.fields import Rating, Source, Stage, Status, Tag, few_members, text
from domain.limits import FILTER_TEXT_CHARACTERS_MAX, FILTER_VALUES_MAX

_ATTRIBUTE = "attribute."


def _listed(tag: object) -> object:
    return [tag] if isinstance(tag, str) else tag


def _as_text(value: object) -> object:
    """An attribute is compared with the value's JSON text: 5 finds 5 and "5"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _normal_instant(value: str) -> str:
    try:
        instant = datetime.fromisoformat(value)
    except ValueError as error:
        raise PydanticCustomError("malformed", "An RFC 3339 time is required.") from error
    if instant.tzinfo is None:
        raise PydanticCustomError("malformed", "An RFC 3339 time with offset is required.")
    try:
        utc = instant.astimezone(UTC)
    except OverflowError as error:
        raise PydanticCustomError("malformed", "A time of our era is required.") from error
    return utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def folded(given: object) -> object:
    """Members `attribute.<name>` as members of `attribute`."""
    if not isinstance(given, dict) or not any(
        isinstance(name, str) and name.startswith(_ATTRIBUTE) for name in given
    ):
        return given
    plain = {name: value for name, value in given.items() if not name.startswith(_ATTRIBUTE)}
    attribute = plain.get("attribute", {})
    if not isinstance(attribute, dict):
        return given
    named = {
        name.removeprefix(_ATTRIBUTE): value
        for name, value in given.items()
        if name.startswith(_ATTRIBUTE)
    }
    return plain | {"attribute": attribute | named}


Instant = Annotated[
    str,
    AfterValidator(_normal_instant),
    Field(json_schema_extra={"format": "date-time"}),
]
Text = Annotated[str, text(FILTER_TEXT_CHARACTERS_MAX)]
AttributeValue = Annotated[
    Text,
    BeforeValidator(_as_text),
    Field(json_schema_extra={"type": ["string", "number", "boolean"]}),
]


@with_config(
    ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "minProperties": 1,
            "patternProperties": {r"^attribute\.": {"type": ["string", "number", "boolean"]}},
        },
    )
)
class CandidateFilter(TypedDict, total=False):
    """Every condition that is named must hold.

    `pipeline_stage` also means all below it, each `tag` must be there, `q` is how a name or the
    e-mail address begins, in any case.
    """

    status: Status
    pipeline_stage: Stage
    source: Source
    rating_min: Rating
    rating_max: Rating
    tag: Annotated[
        list[Tag],
        Field(min_length=1, max_length=FILTER_VALUES_MAX, fail_fast=True),
        BeforeValidator(_listed),
    ]
    attribute: Annotated[
        dict[Text, AttributeValue],
        Field(min_length=1, max_length=FILTER_VALUES_MAX, fail_fast=True),
        BeforeValidator(few_members),
    ]
    q: Text
    updated_since: Instant
    created_since: Instant


FILTERS: tuple[str, ...] = tuple(CandidateFilter.__annotations__)


def filter_instant(value: str) -> datetime:
    """The instant that a validated `updated_since` or `created_since` names."""
    return datetime.fromisoformat(value)
