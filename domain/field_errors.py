"""What is wrong with a command's `data`, where, and in words that repeat no input value.

The codes are ours and closed: pydantic's names and its traces of unions never leave this module.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from domain.limits import (
    ERRORS_MAX,
    MEMBERS_SEARCHED_MAX,
    NUMBER_MAX,
    NUMBER_MIN,
    POINTER_TOKEN_CHARACTERS_MAX,
    POINTER_TOKENS_MAX,
)

ErrorCode = Literal[
    "missing",  # a required field is absent
    "unknown_field",  # a field that the command does not have
    "null",  # null where the field may not be null
    "wrong_type",  # another JSON type than the field's
    "too_short",  # fewer characters, items or members than allowed
    "too_long",  # more characters, items or bytes than allowed
    "too_deep",  # nested further than allowed
    "out_of_range",  # a number of the field outside its range
    "not_one_of",  # not one of the values listed
    "malformed",  # not of the form required: a UUID, a pipeline stage, an e-mail address, a phone
    "invalid_character",  # NUL or a lone surrogate, anywhere, in names too
    "invalid_number",  # NaN, infinite, or outside 64 bits, anywhere
]
ERROR_CODES: tuple[ErrorCode, ...] = get_args(ErrorCode)

UnstorableCode = Literal["invalid_character", "invalid_number"]
UNSTORABLE: dict[UnstorableCode, str] = {
    "invalid_character": "A NUL character or a lone surrogate is not allowed.",
    "invalid_number": "NaN, infinity and numbers outside 64 bits are not allowed.",
}
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")

# The way to a place as linked pairs, innermost name last: depth costs nothing until it is told.
_Path: TypeAlias = "tuple[_Path, str | int] | None"

# pydantic's error type -> our code, and the detail as a format of the error's context.
_MEANINGS: dict[str, tuple[ErrorCode, str]] = {
    "missing": ("missing", "The field is required."),
    "extra_forbidden": ("unknown_field", "The field is not known here."),
    "string_type": ("wrong_type", "A string is required."),
    "int_type": ("wrong_type", "An integer is required."),
    "bool_type": ("wrong_type", "A boolean is required."),
    "list_type": ("wrong_type", "A list is required."),
    "dict_type": ("wrong_type", "An object is required."),
    "model_type": ("wrong_type", "An object is required."),
    "union_tag_not_found": ("wrong_type", "A list, or an object of lists, is required."),
    "string_too_short": ("too_short", "At least {min_length} character is required."),
    "string_too_long": ("too_long", "At most {max_length} characters are allowed."),
    "greater_than_equal": ("out_of_range", "A number of at least {ge} is required."),
    "less_than_equal": ("out_of_range", "A number of at most {le} is required."),
    "literal_error": ("not_one_of", "One of {expected} is required."),
    "string_pattern_mismatch": ("malformed", "The text does not match {pattern}."),
    "string_unicode": ("invalid_character", UNSTORABLE["invalid_character"]),
}
_UNFORESEEN: tuple[ErrorCode, str] = ("malformed", "The value is not acceptable.")


class FieldError(NamedTuple):
    """One thing that is wrong.

    Attributes:
        pointer: RFC 6901, into the command's `data`. Names that are input are cut at 64
            characters and deep paths at 16 names, each cut marked by `…`; NUL and lone
            surrogates appear as U+FFFD.
        code: stable, for programs.
        detail: one sentence for people, without any input value.
    """

    pointer: str
    code: ErrorCode
    detail: str


class InvalidCommand(Exception):
    """The command breaks a rule of CONTRACT.md 3 or 4; `errors` says which and where."""

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__(", ".join(error.code for error in errors))  # pointers hold input
        self.errors = errors


def list_errors(refusal: ValidationError, data: object) -> tuple[FieldError, ...]:
    """Everything that is wrong with `data`, at most `ERRORS_MAX`, one for each place.

    Args:
        refusal: why the command's model refused `data`.
        data: the command as parsed from JSON.
    """
    errors = {error.pointer: error for error in islice(_unstorable(data), ERRORS_MAX)}
    exact = bool(errors)  # else the search gave up and pydantic's place must do
    for fault in refusal.errors(include_url=False):
        if len(errors) >= ERRORS_MAX:
            break
        error = _translate(fault)
        if not (exact and error.code in UNSTORABLE):
            errors.setdefault(error.pointer, error)
    return tuple(errors.values())


def _translate(fault: ErrorDetails) -> FieldError:
    location = fault["loc"]
    if location[:2] == ("changes", "tags"):  # the third is the branch that pydantic chose
        location = location[:2] + location[3:]
    where = pointer(location)
    if fault["type"] in ERROR_CODES:
        return FieldError(where, fault["type"], fault["msg"])
    code, detail = _MEANINGS.get(fault["type"], _UNFORESEEN)
    if fault["input"] is None and code in ("wrong_type", "not_one_of"):
        return FieldError(where, "null", "The field may not be null.")
    return FieldError(where, code, detail.format_map(fault.get("ctx", {})))


def scalar_flaw(value: object) -> UnstorableCode | None:
    """Why this text or number may stand nowhere in a command, or None if it may."""
    if isinstance(value, str):
        clean = "\0" not in value and (value.isascii() or not _SURROGATE.search(value))
        return None if clean else "invalid_character"
    if isinstance(value, float) and value == NUMBER_MIN:
        return "invalid_number"  # orjson makes it of smaller integers too
    if isinstance(value, int | float) and not NUMBER_MIN <= value <= NUMBER_MAX:
        return "invalid_number"  # NaN too: it compares false with everything
    return None


def _unstorable(data: object) -> Iterator[FieldError]:
    """Every NUL, lone surrogate and number beyond 64 bits, outer ones first; no recursion.

    Gives up on data of more members than any valid command has.
    """
    pending: deque[tuple[object, _Path]] = deque([(data, None)])
    members_left = MEMBERS_SEARCHED_MAX
    while pending:
        value, path = pending.popleft()
        if isinstance(value, dict):
            members: Iterable[tuple[str | int, object]] = value.items()
        elif isinstance(value, list):
            members = enumerate(value)
        else:
            continue
        members_left -= len(value)
        if members_left < 0:
            return
        for token, member in members:
            if code := scalar_flaw(token) or scalar_flaw(member):
                yield FieldError(pointer(_tokens((path, token))), code, UNSTORABLE[code])
            if isinstance(member, dict | list):
                pending.append((member, (path, token)))


def _tokens(path: "_Path") -> tuple[str | int, ...]:
    tokens: list[str | int] = []
    while path is not None:
        path, token = path
        tokens.append(token)
    return tuple(reversed(tokens))


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901, with names and depth cut as `FieldError.pointer` says."""
    cut = "/…" if len(location) > POINTER_TOKENS_MAX else ""
    return "".join("/" + _token(token) for token in location[:POINTER_TOKENS_MAX]) + cut


def _token(token: str | int) -> str:
    text = str(token)
    if len(text) > POINTER_TOKEN_CHARACTERS_MAX:
        text = text[: POINTER_TOKEN_CHARACTERS_MAX - 1] + "…"
    text = _UNWRITABLE.sub("\ufffd", text)
    return text.replace("~", "~0").replace("/", "~1")
