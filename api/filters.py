"""What a list of candidates may be narrowed by and sorted by, read from the query (CONTRACT.md 6).

A `Listing` is canonical: two queries that ask the same are equal and have the same `fingerprint`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from pydantic import Field as Parameter
from starlette.requests import Request

from api.instants import Instant
from api.limits import (
    ATTRIBUTE_CHARACTERS_MAX,
    ATTRIBUTES_ASKED_MAX,
    PAGE_ROWS,
    PAGE_ROWS_MAX,
    QUERY_CHARACTERS_MAX,
    TAGS_ASKED_MAX,
)
from api.problems import invalid_request, query_errors
from domain.field_errors import FieldError, pointer
from domain.fields import Stage, Status
from domain.limits import ERRORS_MAX, RATING_MAX, SOURCE_CHARACTERS_MAX, TAG_CHARACTERS_MAX

ATTRIBUTE = "attribute."
NO_NUL = r"^[^\x00]*$"

Sort = Literal["updated_at", "-updated_at", "created_at", "-created_at", "last_name", "-last_name"]


def _text(characters_max: int) -> StringConstraints:
    return StringConstraints(min_length=1, max_length=characters_max, pattern=NO_NUL)


Rating = Annotated[int, Parameter(ge=0, le=RATING_MAX)]


def _distinct(texts: list[str]) -> list[str]:
    return sorted(set(texts))


class ListQuery(BaseModel):
    """The query of a list, `attribute.<name>` gathered in `attribute`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Status | None = None
    pipeline_stage: Stage | None = None
    source: Annotated[str, _text(SOURCE_CHARACTERS_MAX)] | None = None
    rating_min: Rating | None = None
    rating_max: Rating | None = None
    tag: Annotated[
        list[Annotated[str, _text(TAG_CHARACTERS_MAX)]],
        Parameter(max_length=TAGS_ASKED_MAX),
        AfterValidator(_distinct),
    ] = []
    attribute: Annotated[
        dict[
            Annotated[str, _text(ATTRIBUTE_CHARACTERS_MAX)],
            Annotated[str, StringConstraints(max_length=ATTRIBUTE_CHARACTERS_MAX, pattern=NO_NUL)],
        ],
        Parameter(max_length=ATTRIBUTES_ASKED_MAX),
    ] = {}
    q: Annotated[str, _text(QUERY_CHARACTERS_MAX)] | None = None
    updated_since: Instant | None = None
    created_since: Instant | None = None
    sort: Sort = "-updated_at"
    limit: Annotated[int, Parameter(ge=1, le=PAGE_ROWS_MAX)] = PAGE_ROWS
    cursor: str | None = None


_FILTERS = {
    "status", "pipeline_stage", "source", "rating_min", "rating_max", "q", "updated_since",
    "created_since",
}  # fmt: skip
_REPEATABLE = frozenset({"tag"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Which candidates, in which order, how many of them; `filter` as PostgreSQL reads it."""

    filter: Mapping[str, Any]
    sort: Sort
    limit: int
    cursor: str | None

    @property
    def fingerprint(self) -> str:
        """The same for the same filter and order, whatever the page."""
        return orjson.dumps([self.sort, self.filter], option=orjson.OPT_SORT_KEYS).decode()


def read_listing(request: Request) -> Listing:
    """What the query asks for.

    Raises:
        Problem: 400, with all that is wrong with it.
    """
    fields, errors = _gathered(request.query_params.multi_items())
    try:
        query = ListQuery.model_validate(fields)
    except ValidationError as refusal:
        errors += query_errors(refusal)
        raise invalid_request(*_placed(errors)) from None
    if errors:
        raise invalid_request(*errors)
    asked = query.model_dump(mode="json", include=_FILTERS, exclude_none=True)
    if query.tag:
        asked["tags"] = query.tag
    if query.attribute:
        asked["attributes"] = query.attribute
    return Listing(filter=asked, sort=query.sort, limit=query.limit, cursor=query.cursor)


def _gathered(items: Iterable[tuple[str, str]]) -> tuple[dict[str, Any], list[FieldError]]:
    """The parameters by name, and what stands there twice though it may not."""
    fields: dict[str, Any] = {}
    twice: dict[str, FieldError] = {}
    for name, value in items:
        if name in _REPEATABLE:
            fields.setdefault(name, []).append(value)
            continue
        if name.startswith(ATTRIBUTE):
            into, key = fields.setdefault("attribute", {}), name.removeprefix(ATTRIBUTE)
        else:
            into, key = fields, "attribute." if name == "attribute" else name
        if key in into and len(twice) < ERRORS_MAX:
            twice[name] = FieldError(pointer(("query", name)), "too_long", "One value is allowed.")
        into[key] = value
    return fields, list(twice.values())


def _placed(errors: Iterable[FieldError]) -> Iterable[FieldError]:
    """`/query/attribute/x` is `/query/attribute.x` where the client wrote it."""
    for error in errors:
        where = error.pointer.replace("/query/attribute/", "/query/attribute.", 1)
        yield error._replace(pointer=where.removesuffix("/[key]"))
