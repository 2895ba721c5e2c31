"""A Kafka record as it was sent: what a reroute republishes and a dead letter keeps.

`pack` and `unpack` are exact inverses: nulls, repeated headers and raw bytes survive.
"""

from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes | None], ...]


class RawRecord(Protocol):
    """What we need of a record, whoever read it; `timestamp` in milliseconds since the epoch."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...
    @property
    def timestamp(self) -> int: ...


_PREFIX = Struct(">qi")
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)

# A batch's header is 61 bytes; what stands before key, value and each header is varints.
_FRAMING_BYTES_MAX = 61 + 36
_HEADER_FRAMING_BYTES_MAX = 10


class SourceRecord(NamedTuple):
    """A record as it was packed."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int


def record_bytes(record: RawRecord) -> int:
    """Bytes that the record takes alone in a batch, not compressed, at most: what topics limit."""
    total = _FRAMING_BYTES_MAX + len(record.key or b"") + len(record.value or b"")
    for name, value in record.headers:
        total += _HEADER_FRAMING_BYTES_MAX + len(value or b"")
        total += len(name) if name.isascii() else len(name_bytes(name))
    return total


def pack(record: RawRecord) -> bytes:
    """One byte string that `unpack` turns back into the same record."""
    parts = [_PREFIX.pack(record.timestamp, len(record.headers))]
    parts += _field(record.key), _field(record.value)
    for name, value in record.headers:
        parts += _field(name_bytes(name)), _field(value)
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


def record_digest(record: RawRecord) -> bytes:
    """16 bytes over a whole record: tells whether a topic still holds what was read."""
    return blake2b(pack(record), digest_size=16).digest()


def name_bytes(name: str) -> bytes:
    """A header's name as it was sent; bytes that are no UTF-8 are surrogates in `name`."""
    return name.encode("utf-8", "surrogateescape")


def writable_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Names that are no UTF-8 can be kept, but not written again: their bytes appear as `\\xff`."""
    return [
        (name if name.isascii() else name_bytes(name).decode("utf-8", "backslashreplace"), value)
        for name, value in headers
    ]


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
