"""A dead letter's record for a person: what is safe to see, the rest masked unless asked for.

Ids, types and closed sets are shown; every other value may be somebody's name. Bytes that are no
JSON are told by size and digest only.
"""

import re
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson

from audit.dead_letters import WholeLetter
from contract.envelope import Undecodable, read_envelope
from contract.record import SourceRecord

MASK = "***"
_HEX_BYTES_MAX = 64 * 1024
"""What a terminal bears; the dead letter on the topic has all of it."""

_SHOWN = frozenset({
    "specversion", "id", "source", "type", "time", "datacontenttype", "organization_id",
    "candidate_id", "candidate_ids", "operation_id", "expected_version", "on_conflict", "dry_run",
    "action",
})  # fmt: skip
_SHOWN_OF_A_CANDIDATE = frozenset({"status", "pipeline_stage", "rating"})
_SHOWN_HEADERS = frozenset({
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type", "traceparent",
    "x-redrive-of",
})  # fmt: skip
_MEMBERS = frozenset({"candidate", "changes", "filter"})
"""Objects whose members are looked at one by one; any other is masked whole."""

_NAME = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_.:/+-]{1,200}", re.ASCII)
"""Neither names nor values of members are trusted: no blanks, no `@`."""


def described(letter: WholeLetter, *, show_values: bool, as_hex: bool) -> dict[str, Any]:
    """Everything about a letter, ready to be printed; `redrives` as the audit trail has them."""
    told: dict[str, Any] = {
        "id": str(letter.id),
        "recorded_at": letter.recorded_at,
        "origin": {"partition": letter.id.lane, "offset": letter.source_offset},
        "error_code": letter.error_code,
        "error_detail": letter.error_detail,
        "organization_id": letter.organization_id,
        "candidate_id": letter.candidate_id,
        "command": {
            "id": letter.command_id,
            "source": letter.command_source,
            "type": letter.command_type,
        },
        "redrive_of": letter.redrive_of,
        "redrives": list(letter.redrives),
    }
    if letter.record is None:
        return told | {"record": None}
    return told | _record(letter.record, show_values=show_values, as_hex=as_hex)


def _record(record: SourceRecord, *, show_values: bool, as_hex: bool) -> dict[str, Any]:
    value = record.value
    told: dict[str, Any] = {
        "timestamp": record.timestamp,
        "key": _key(record.key, show_values=show_values),
        "headers": [
            [name, _bytes_text(content) if show_values or name in _SHOWN_HEADERS else MASK]
            for name, content in record.headers
        ],
        "attempt": _attempt(record),
        "value_bytes": None if value is None else len(value),
        "value_sha256": None if value is None else sha256(value).hexdigest(),
    }
    if value is None:
        return told
    if as_hex:
        return told | {"value_hex": value[:_HEX_BYTES_MAX].hex() if show_values else MASK}
    try:
        told["value"] = orjson.loads(value)
    except orjson.JSONDecodeError:
        return told | {"value": _bytes_text(value) if show_values else MASK}
    if not show_values:
        told["value"] = masked(told["value"])
    return told


def _attempt(record: SourceRecord) -> dict[str, str]:
    """How this version reads the record now."""
    try:
        envelope = read_envelope(record)
    except Undecodable as error:
        return {"error_code": error.code, "error_detail": error.detail}
    return {"id": envelope.command_id, "source": envelope.source, "type": envelope.type}


def masked(value: Any, shown: frozenset[str] = _SHOWN) -> Any:
    """The same JSON, with what may be personal data masked; nulls and shapes stay."""
    if not isinstance(value, dict):
        return None if value is None else MASK
    return {
        name if _NAME.fullmatch(name) else MASK: _member(name, content, shown)
        for name, content in value.items()
    }


def _member(name: str, content: Any, shown: frozenset[str]) -> Any:
    if content is None:
        return None
    if name == "data":
        return masked(content, shown)
    if name in _MEMBERS:
        return masked(content, _SHOWN_OF_A_CANDIDATE)
    return content if name in shown and _is_plain(content) else MASK


def _is_plain(content: Any) -> bool:
    if isinstance(content, list):
        return all(map(_is_plain, content))
    return not isinstance(content, dict | str) or (
        isinstance(content, str) and _PLAIN.fullmatch(content) is not None
    )


def _key(key: bytes | None, *, show_values: bool) -> Any:
    if key is None or show_values:
        return _bytes_text(key)
    try:
        return str(UUID(key.decode()))
    except ValueError:  # UnicodeDecodeError is one
        return MASK


def _bytes_text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")
