"""Request header fields that RFC 9110 and RFC 7240 define, read leniently as they ask."""

import re
from collections.abc import Sequence

from starlette.datastructures import Headers

from api.limits import REQUEST_ID_CHARACTERS_MAX, TRACESTATE_CHARACTERS_MAX, WAIT_S_MAX
from domain.limits import COMMAND_ID_CHARACTERS_MAX

_ENTITY_TAG = re.compile(r'(?:W/)?("[^"]*")')
_STRONG_TAG = re.compile(r'(?<!W/)("[^"]*")')
_VERSION_TAG = re.compile(r'"([1-9][0-9]{0,17})"')
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
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


def if_match(fields: Sequence[str], tag: str) -> bool:
    """Whether `If-Match` lets the request through (RFC 9110 13.1.1): strong tags only.

    Args:
        fields: the values of all lines of the field, of which there is one at least.
        tag: of the representation that there is.
    """
    listed = ",".join(fields)
    return listed.strip() == "*" or tag in _STRONG_TAG.findall(listed)


def version_matched(fields: Sequence[str]) -> int | None:
    """The one version that `If-Match` demands (RFC 9110 13.1.1); None if any will do.

    Raises:
        ValueError: it names no version of ours, or several.
    """
    listed = ",".join(fields).strip()
    if not fields or listed == "*":
        return None
    version = _VERSION_TAG.fullmatch(listed)
    if version is None:
        raise ValueError("not one strong entity tag of ours")
    return int(version[1])


def idempotency_key(fields: Sequence[str]) -> str | None:
    """`Idempotency-Key`, with or without the quotes of its draft standard; None if absent.

    Raises:
        ValueError: it is empty, too long, not printable ASCII, or there are several.
    """
    if not fields:
        return None
    key = fields[0].strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    fits = 0 < len(key) <= COMMAND_ID_CHARACTERS_MAX and key.isascii() and key.isprintable()
    if len(fields) > 1 or not fits:
        raise ValueError("not one key of printable characters")
    return key


def trace_context(headers: Headers) -> tuple[str | None, str | None]:
    """W3C `traceparent` and `tracestate`, if the first is well-formed; else neither."""
    traceparent = headers.get("traceparent", "")
    if _TRACEPARENT.fullmatch(traceparent) is None:
        return None, None
    tracestate = headers.get("tracestate", "")
    kept = 0 < len(tracestate) <= TRACESTATE_CHARACTERS_MAX and tracestate.isprintable()
    return traceparent, tracestate if kept else None


def wait_preferred_s(fields: Sequence[str]) -> int | None:
    """`Prefer: wait=S`, at most `WAIT_S_MAX`; None if nobody prefers to wait (RFC 7240 4.3)."""
    for preference in ",".join(fields).split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() == "wait" and seconds.isascii() and seconds.isdigit():
            return min(int(seconds[:9]), WAIT_S_MAX)
    return None


def quality(fields: Sequence[str], media_type: str) -> float:
    """How much `Accept` wants this media type, 0 to 1 (RFC 9110 12.5.1); without the field, 1.

    The most specific range counts; parameters other than `q`, and what is malformed, do not.
    """
    listed = ",".join(fields)
    if not listed.strip():
        return 1.0
    weights: dict[str, float] = {}
    for each in listed.split(","):
        wanted, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        if _WEIGHT.fullmatch(weight):
            weights[wanted] = float(weight)
    ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((weights[each] for each in ranges if each in weights), 0.0)


def valid_request_id(text: str) -> bool:
    """Whether a client's `X-Request-Id` may be echoed and logged as it is."""
    return _REQUEST_ID.fullmatch(text) is not None
