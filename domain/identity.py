"""Who a command is: its identity, its digest, its age and its home lane.

All four are pure functions of what the sender wrote, so every process, now or in a replay,
computes the same values.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID, uuid5

import orjson

_UUID7 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


_HEX_DIGITS = 32
_OPERATIONS = UUID("b7c04b4c-0d2a-5f0e-9d1d-5a4f2f3c6e01")
"""The namespace of bulk operations' ids: arbitrary, never changed."""


class Identity(NamedTuple):
    """What makes two records the same command: organization, `ce_source` and `ce_id`."""

    organization_id: str
    source: str
    command_id: str

    @property
    def key(self) -> str:
        """128 bits as 32 hex digits, the journal's deduplication key.

        It begins with the time of a UUIDv7, so that new commands are neighbours in the index,
        however long the journal is. What follows depends on organization and id only, so that a
        range scan finds a command whose source the asker does not know; the rest adds the source.
        """
        prefix, hashed = _without_source(self.organization_id, self.command_id)
        hashed.update(f"\0{self.source}".encode())
        return prefix + hashed.hexdigest()[: _HEX_DIGITS - len(prefix)]


def identity_range(organization_id: str, command_id: str) -> tuple[str, str]:
    """The lowest and the highest key of commands with this organization and id."""
    prefix, _ = _without_source(organization_id, command_id)
    return _keys_that_begin(prefix)


def identity_range_of_time(command_id: str) -> tuple[str, str] | None:
    """The same of all commands whose UUIDv7 has the time of this one; None: it is no UUIDv7."""
    time = _uuid7_time_digits(command_id)
    return _keys_that_begin(time) if time else None


def operation_id_of(identity_key: str) -> str:
    """The id of the bulk operation that the command with this identity key begins: a UUIDv5."""
    return str(uuid5(_OPERATIONS, identity_key))


def _uuid7_time_digits(command_id: str) -> str:
    """The 12 digits of a UUIDv7's time, nothing of another id."""
    if command_id[14:15] != "7":
        return ""
    uuid7 = _UUID7.fullmatch(command_id)
    return "" if uuid7 is None else (uuid7[1] + uuid7[2]).lower()


def _without_source(organization_id: str, command_id: str) -> tuple[str, "blake2b"]:
    """How all their keys begin, and the hash that goes on with the source."""
    hashed = blake2b(f"{organization_id}\0{command_id}".encode(), digest_size=8)
    time = _uuid7_time_digits(command_id)
    return time + hashed.hexdigest()[: (_HEX_DIGITS - len(time)) // 2], hashed


def _keys_that_begin(prefix: str) -> tuple[str, str]:
    """The lowest and the highest of them."""
    return prefix.ljust(_HEX_DIGITS, "0"), prefix.ljust(_HEX_DIGITS, "f")


def command_digest(command_type: str, data: object) -> bytes:
    """16 bytes over `ce_type` and `data` as sent, keys sorted, before any normalization.

    Total: data that strict JSON cannot carry (NaN, lone surrogates, numbers beyond 64 bits, deep
    nests) is digested too, as it is such data that must be told from its repaired twin.
    """
    digest = blake2b(command_type.encode() + b"\n", digest_size=16)
    try:
        canonical = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        canonical = b""
    if canonical and (b"null" not in canonical or orjson.loads(canonical) == data):
        # orjson writes NaN and infinity as null without a word, hence the second look.
        digest.update(canonical)
    else:
        for token in _tokens(data):
            digest.update(token)
    return digest.digest()


def _tokens(data: object) -> Iterator[bytes]:
    """`data` in one unambiguous order, without recursion."""
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield b"{%d" % len(value)
            for name in sorted(value, reverse=True):
                pending += value[name], name
        elif isinstance(value, list):
            yield b"[%d" % len(value)
            pending += reversed(value)
        else:
            yield json.dumps(value).encode() + b","


def uuid7_time(command_id: str) -> float | None:
    """Seconds since the epoch inside a UUIDv7 (RFC 9562 5.7), or None for any other id."""
    time = _uuid7_time_digits(command_id)
    return int(time, 16) / 1000 if time else None


def uuid7_prefix(seconds: float) -> str:
    """How the first UUIDv7 made at or after this instant begins: the 48 bits of its time.

    Every UUIDv7 made before it sorts before it as text, whatever its case: capitals sort before
    the lower case of the prefix. So an id that does not is either newer or no UUIDv7.
    """
    milliseconds = f"{max(0, math.ceil(seconds * 1000)):012x}"
    return f"{milliseconds[:8]}-{milliseconds[8:]}"


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2, seed 0x9747b28c (org.apache.kafka.common.utils.Utils)."""
    length = len(data)
    m = 0x5BD1E995
    h = 0x9747B28C ^ length
    whole = length - length % 4
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def home_lane(organization_id: str, partitions_total: int) -> int:
    """The lane of an organization: `(murmur2(id) & 0x7fffffff) % N` (CONTRACT.md 1).

    `organization_id` is the canonical, lower-case, 36-character form.
    """
    return (murmur2(organization_id.encode()) & 0x7FFFFFFF) % partitions_total
