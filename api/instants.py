"""Instants in a query: RFC 3339, with an offset, as UTC."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_LOST_PLUS = re.compile(r" (?=\d\d:\d\d$)")


def instant(text: str) -> datetime:
    """The instant in UTC; a `+` that nobody encoded has become a space and is taken for one.

    Raises:
        ValueError: it is not of this form, or no instant that a calendar has.
    """
    written = _LOST_PLUS.sub("+", text)
    if _RFC3339.fullmatch(written) is None:
        raise ValueError("not RFC 3339")
    try:
        found = datetime.fromisoformat(written.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the calendar") from error
    return found


def _parsed(text: object) -> datetime:
    try:
        return instant(str(text))
    except ValueError as error:
        raise PydanticCustomError(
            "malformed", "A time as in RFC 3339 is required, with its offset."
        ) from error


Instant = Annotated[datetime, BeforeValidator(_parsed)]
