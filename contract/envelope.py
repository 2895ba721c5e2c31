"""CloudEvents 1.0 over Kafka, read: binary and structured mode (CONTRACT.md 2).

`read_envelope` either returns a usable envelope or raises `Undecodable`, whatever bytes come in.
Source: CloudEvents 1.0.2, Kafka protocol binding 1.0.2.
"""

import json
import re
from base64 import b64decode
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from contract.record import RawRecord, record_bytes
from domain.limits import (
    COMMAND_ID_CHARACTERS_MAX,
    COMMAND_RECORD_BYTES_MAX,
    COMMAND_TYPE_CHARACTERS_MAX,
)
from domain.outcomes import DeadLetterCode

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_STRUCTURED = "application/cloudevents+json"


class Undecodable(Exception):
    """The record cannot be answered by a result: it becomes a dead letter."""

    def __init__(self, code: DeadLetterCode, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


class Envelope(NamedTuple):
    """The attributes that matter here, and `data` parsed; `data` may be any JSON value."""

    command_id: str
    source: str
    type: str
    data: Any
    traceparent: str | None = None
    tracestate: str | None = None


def read_envelope(record: RawRecord) -> Envelope:
    """The CloudEvent in a record.

    Raises:
        Undecodable: empty, too large, no CloudEvent, no JSON, or without id or source.
    """
    if not record.value:
        raise Undecodable("empty", "The record has no value.")
    if record_bytes(record) > COMMAND_RECORD_BYTES_MAX:
        raise Undecodable("too_large", f"More than {COMMAND_RECORD_BYTES_MAX} bytes.")
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        _refuse_repeated(record)
    content_type = _content_type(headers.get("content-type"))
    if content_type == _STRUCTURED:
        return _structured(record.value, headers)
    if content_type.startswith("application/cloudevents"):
        raise Undecodable("not_cloudevents", "Only the JSON format, one event a record.")
    return _binary(record.value, headers, content_type)


def _binary(value: bytes, headers: dict[str, bytes | None], content_type: str) -> Envelope:
    if headers.get("ce_specversion") != b"1.0":
        raise Undecodable("not_cloudevents", "The header ce_specversion is not 1.0.")
    if content_type not in ("", "application/json") and not content_type.endswith("+json"):
        raise Undecodable("not_cloudevents", "The content type is not JSON.")
    command_type = _command_type(_repeated_text(headers.get("ce_type")))
    data = parse_json(value)
    return Envelope(
        _identifier(_text(headers.get("ce_id")), "id"),
        _identifier(_repeated_text(headers.get("ce_source")), "source"),
        command_type,
        data,
        _text(headers.get("traceparent")),
        _text(headers.get("tracestate")),
    )


def _structured(value: bytes, headers: dict[str, bytes | None]) -> Envelope:
    event = parse_json(value)
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        raise Undecodable("not_cloudevents", "The specversion of the event is not 1.0.")
    command_type = _command_type(event.get("type"))
    data = event.get("data")
    if "data_base64" in event:
        data = _base64_data(event)
    return Envelope(
        _identifier(event.get("id"), "id"),
        _identifier(event.get("source"), "source"),
        command_type,
        data,
        _text(headers.get("traceparent")) or _storable_text(event.get("traceparent")),
        _text(headers.get("tracestate")) or _storable_text(event.get("tracestate")),
    )


def _base64_data(event: dict[str, Any]) -> Any:
    if "data" in event:
        raise Undecodable("not_cloudevents", "The event has both data and data_base64.")
    try:
        return parse_json(b64decode(event["data_base64"], validate=True))
    except (TypeError, ValueError) as error:
        raise Undecodable("not_json", "The member data_base64 is not base64.") from error


def parse_json(value: bytes) -> Any:
    """The value; a lenient parser reads what strict JSON refuses, so that it can be answered.

    Raises:
        Undecodable: neither parser can read it, or it is nested too deeply to be read.
    """
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(value.decode(), parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Undecodable("not_json", "The data is not JSON in UTF-8.") from error


def _integer(digits: str) -> int | float:
    """More than 20 characters are beyond 64 bits anyway, more than 4300 beyond Python's int."""
    return int(digits) if len(digits) <= 20 else float(digits)


def storable(text: str) -> bool:
    """Can PostgreSQL hold it as text: no NUL, no lone surrogate?"""
    return "\0" not in text and (text.isascii() or _SURROGATE.search(text) is None)


def _command_type(text: Any) -> str:
    if not isinstance(text, str) or not text or not storable(text):
        raise Undecodable("not_cloudevents", "The event has no usable type.")
    if len(text) > COMMAND_TYPE_CHARACTERS_MAX:
        raise Undecodable("unknown_type", "The event's type is longer than any type.")
    return text


def _identifier(text: Any, name: str) -> str:
    if not isinstance(text, str) or not text or not storable(text):
        raise Undecodable("no_identity", f"The event has no usable {name}.")
    if len(text) > COMMAND_ID_CHARACTERS_MAX:
        raise Undecodable(
            "no_identity",
            f"The event's {name} has more than {COMMAND_ID_CHARACTERS_MAX} characters.",
        )
    return text


def _text(value: bytes | None) -> str | None:
    """The text of a header, None if it is none. UTF-8 holds no surrogate, so NUL is all to fear."""
    if value is None or b"\0" in value:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


def _storable_text(value: Any) -> str | None:
    return value if isinstance(value, str) and storable(value) else None


def _repeated_text(value: bytes | None) -> str | None:
    """As `_text`, for headers that are the same in nearly every record."""
    return _known_text(value) if value is None or len(value) <= 1024 else _text(value)


_known_text = lru_cache(maxsize=1024)(_text)


def _content_type(value: bytes | None) -> str:
    if value == b"application/json":
        return "application/json"
    return (_text(value) or "").partition(";")[0].strip().lower()


def _refuse_repeated(record: RawRecord) -> None:
    names = [name for name, _ in record.headers]
    attributes = [name for name in names if name.startswith("ce_") or name == "content-type"]
    if len(set(attributes)) < len(attributes):
        raise Undecodable("not_cloudevents", "An attribute is there more than once.")
