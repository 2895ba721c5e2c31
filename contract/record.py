"""A Kafka record as it was sent: what a reroute republishes and a dead letter keeps.

`pack` and `unpack` are exact inverses: nulls, repeated headers and raw bytes survive.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]

_PREFIX = Struct(">qi")
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)


class SourceRecord(NamedTuple):
    """Key, value and headers untouched; `timestamp` in milliseconds since the epoch."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers


def pack(record: SourceRecord) -> bytes:
    """One byte string that `unpack` turns back into the same record."""
    parts = [_PREFIX.pack(record.timestamp, len(record.headers))]
    parts += _field(record.key), _field(record.value)
    for name, value in record.headers:
        # surrogateescape: aiokafka gives header names as text, whatever bytes they were.
        parts += _field(name.encode("utf-8", "surrogateescape")), _field(value)
    return b"".join(parts)


def unpack(packed: bytes) -> SourceRecord:
    """The record that `pack` was given."""
    timestamp, headers_total = _PREFIX.unpack_from(packed)
    fields = _fields(packed, _PREFIX.size)
    key, value = next(fields), next(fields)
    headers = tuple(
        ((next(fields) or b"").decode("utf-8", "surrogateescape"), next(fields))
        for _ in range(headers_total)
    )
    return SourceRecord(key, value, headers, timestamp)


def _field(value: bytes | None) -> bytes:
    return _NULL if value is None else _LENGTH.pack(len(value)) + value


def _fields(packed: bytes, position: int) -> Iterator[bytes | None]:
    while position < len(packed):
        (length,) = _LENGTH.unpack_from(packed, position)
        position += _LENGTH.size
        if length < 0:
            yield None
            continue
        yield packed[position : position + length]
        position += length
