"""Request header fields that RFC 9110 and RFC 7240 define, read leniently as they ask."""

import re
from collections.abc import Sequence

from api.limits import REQUEST_ID_CHARACTERS_MAX, WAIT_S_MAX

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
_REQUEST_ID = re.compile(rf"[A-Za-z0-9._~:/+=@-]{{1,{REQUEST_ID_CHARACTERS_MAX}}}")


def entity_tag(version: int) -> str:
    """The strong ETag of one version."""
    return f'"{version}"'


def none_match(fields: Sequence[str], tag: str) -> bool:
    """Whether `If-None-Match` lets the request through: true if there is none (RFC 9110 13.1.2).

    Args:
        fields: the values of all lines of the field.
        tag: of the representation that there is; weak and strong tags compare equal.
    """
    listed = ",".join(fields)
    return listed.strip() != "*" and tag not in _ENTITY_TAG.findall(listed)


def wait_preferred_s(fields: Sequence[str]) -> int | None:
    """`Prefer: wait=S`, at most `WAIT_S_MAX`; None if nobody prefers to wait (RFC 7240 4.3)."""
    for preference in ",".join(fields).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdigit():
            return min(int(seconds[:9]), WAIT_S_MAX)
    return None


def valid_request_id(text: str) -> bool:
    """Whether a client's `X-Request-Id` may be echoed and logged as it is."""
    return _REQUEST_ID.fullmatch(text) is not None
