"""The field types of CONTRACT.md 4: what each accepts, and the one form in which it is stored.

Whatever pydantic-core can check runs there; Python runs only for e-mail, phone, tags and
attributes. Each stored form is a fixed point: validated again, it comes out the same.
"""

import re
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, Literal

import orjson
import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from domain.field_errors import UNSTORABLE, FieldError, UnstorableCode, scalar_flaw
from domain.limits import (
    ACTOR_CHARACTERS_MAX,
    ATTRIBUTES_BYTES_MAX,
    ATTRIBUTES_LEVELS_MAX,
    EMAIL_CHARACTERS_MAX,
    ERASE_REASON_CHARACTERS_MAX,
    MEMBERS_MAX,
    NAME_CHARACTERS_MAX,
    NUMBER_MAX,
    PHONE_CHARACTERS_MAX,
    RATING_MAX,
    SOURCE_CHARACTERS_MAX,
    STAGE_LABEL_CHARACTERS_MAX,
    STAGE_LABELS_MAX,
    TAG_CHARACTERS_MAX,
    TAGS_MAX,
)

_NO_NUL = r"^[^\x00]*$"  # pydantic-core refuses lone surrogates by itself
_UUID = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
_LABEL = rf"[a-z0-9_]{{1,{STAGE_LABEL_CHARACTERS_MAX}}}"
_STAGE = rf"^{_LABEL}(?:\.{_LABEL}){{0,{STAGE_LABELS_MAX - 1}}}$"


def _normal_email(email: str) -> str:
    if len(email) <= _PLAIN_EMAIL_CHARACTERS_MAX and _PLAIN_EMAIL.fullmatch(email):
        local_part, _, domain = email.partition("@")
        return f"{local_part}@{domain.lower()}"
    try:
        valid = validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise PydanticCustomError("malformed", "A valid e-mail address is required.") from error
    return valid.normalized


# What email-validator (some 50 µs) surely accepts and changes in nothing but the domain's case:
# short enough that no label reaches 63 octets, no Punycode, no special-use top-level domain.
_PLAIN_EMAIL_CHARACTERS_MAX = 64
_PLAIN_EMAIL = re.compile(
    r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\.)+"
    r"(?!(?i:arpa|invalid|local|localhost|onion)\Z)[A-Za-z]{2,}"
)


PHONE_REGIONS: AbstractSet[str] = phonenumbers.SUPPORTED_REGIONS


def _normal_phone(phone: str, info: ValidationInfo) -> str:
    """E.164; the context of the validation is the region of numbers without `+`, or None."""
    try:
        number = phonenumbers.parse(phone, region=info.context)
    except phonenumbers.NumberParseException as error:
        raise PydanticCustomError("malformed", "A valid phone number is required.") from error
    if number.extension:
        raise PydanticCustomError("malformed", "A phone number without extension is required.")
    if not phonenumbers.is_valid_number(number):
        raise PydanticCustomError("malformed", "A valid phone number is required.")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _distinct_tags(tags: list[str]) -> list[str]:
    distinct = list(dict.fromkeys(tags))
    if len(distinct) > TAGS_MAX:
        raise PydanticCustomError("too_long", f"At most {TAGS_MAX} tags are allowed.")
    return distinct


def attributes_error(attributes: dict[str, Any]) -> FieldError | None:
    """The rule for `attributes`, for what a command sends and for what a merge makes of it.

    At most 16 KiB as compact UTF-8 JSON (as `orjson.dumps` writes it) and at most 5 levels: the
    object itself is the first, each object or list inside another is one more.

    Returns:
        What is wrong, its pointer relative to the attributes (always empty), or None.
    """
    try:
        size_bytes = len(orjson.dumps(attributes))
    except orjson.JSONEncodeError:
        size_bytes = 0  # too deep, a surrogate or a huge number: the walk tells which
    if size_bytes > ATTRIBUTES_BYTES_MAX:
        return FieldError("", "too_long", f"At most {ATTRIBUTES_BYTES_MAX} bytes are allowed.")
    code = _nested_flaw(attributes, ATTRIBUTES_LEVELS_MAX)
    if code is None:
        return None
    if code == "too_deep":
        return FieldError("", code, f"At most {ATTRIBUTES_LEVELS_MAX} levels are allowed.")
    return FieldError("", code, UNSTORABLE[code])


def _nested_flaw(value: object, levels_left: int) -> UnstorableCode | Literal["too_deep"] | None:
    if not isinstance(value, dict | list):
        return scalar_flaw(value)
    if levels_left == 0:
        return "too_deep"
    if isinstance(value, dict):
        for name in value:
            if flaw := scalar_flaw(name):
                return flaw
        value = value.values()
    for member in value:
        if nested := _nested_flaw(member, levels_left - 1):
            return nested
    return None


def _checked_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    if error := attributes_error(attributes):
        raise PydanticCustomError(error.code, error.detail)
    return attributes


def few_members(value: object) -> object:
    """Refuses an object of very many fields before pydantic lists each as unknown."""
    if isinstance(value, dict) and len(value) > MEMBERS_MAX:
        raise PydanticCustomError("too_long", f"At most {MEMBERS_MAX} fields are allowed.")
    return value


def some_members(value: object) -> object:
    """As `few_members`, and refuses an object that names nothing."""
    if value == {}:
        raise PydanticCustomError("too_short", "At least one field is required.")
    return few_members(value)


def text(characters_max: int, *, trimmed: bool = False) -> StringConstraints:
    """A text of 1 to so many characters, without NUL."""
    return StringConstraints(
        strip_whitespace=trimmed, min_length=1, max_length=characters_max, pattern=_NO_NUL
    )


Uuid = Annotated[
    str,
    StringConstraints(pattern=_UUID, to_lower=True),
    Field(json_schema_extra={"format": "uuid"}),
]
Actor = Annotated[str, text(ACTOR_CHARACTERS_MAX)]
ErasureReason = Annotated[
    str,
    text(ERASE_REASON_CHARACTERS_MAX, trimmed=True),
    Field(description="Kept for good as proof: it must not tell of the person."),
]
Version = Annotated[int, Field(ge=1, le=NUMBER_MAX)]

Name = Annotated[str, text(NAME_CHARACTERS_MAX, trimmed=True)]
Email = Annotated[
    str,
    text(EMAIL_CHARACTERS_MAX),
    AfterValidator(_normal_email),
    Field(description="A valid address; the domain is stored in lower case."),
]
Phone = Annotated[
    str,
    text(PHONE_CHARACTERS_MAX),
    AfterValidator(_normal_phone),
    Field(description="A valid number without extension, best with `+`; stored as E.164."),
]
Status = Literal[
    "new", "contacted", "screening", "interview", "offer", "hired", "rejected", "withdrawn"
]
Stage = Annotated[str, StringConstraints(pattern=_STAGE)]
Rating = Annotated[int, Field(ge=0, le=RATING_MAX)]
Source = Annotated[str, text(SOURCE_CHARACTERS_MAX)]
Tag = Annotated[str, text(TAG_CHARACTERS_MAX)]
Tags = Annotated[
    list[Tag],
    Field(
        fail_fast=True,  # or a list of a million numbers would be a million errors
        description="Repeats collapse.",
        json_schema_extra={"maxItems": TAGS_MAX},
    ),
    AfterValidator(_distinct_tags),
]
Attributes = Annotated[
    dict[str, Any],
    Field(
        fail_fast=True,
        description=f"At most {ATTRIBUTES_BYTES_MAX} bytes as compact UTF-8 JSON and "
        f"{ATTRIBUTES_LEVELS_MAX} levels, the object itself being the first.",
    ),
    AfterValidator(_checked_attributes),
]
