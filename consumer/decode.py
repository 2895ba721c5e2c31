"""Decode: records to what each of them means for this lane, in order.

Total: every record becomes a submission, a reroute or a dead letter; nothing raises.
"""

import json
import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from contract.envelope import Envelope, Undecodable, read_envelope
from contract.record import Headers, SourceRecord, pack
from domain.commands import KNOWN_TYPES, CommandParser, InvalidCommand
from domain.decide import Submission
from domain.identity import Identity, command_digest, home_lane
from domain.outcomes import DeadLetterCode

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class KafkaRecord(Protocol):
    """What we need of aiokafka's ConsumerRecord."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Reroute(NamedTuple):
    """A command of an organization whose home is another lane."""

    home: int


class DeadLetter(NamedTuple):
    """A record that no result can answer. `detail` holds no personal data."""

    code: DeadLetterCode
    detail: str


class Item(NamedTuple):
    """One record of a batch, with what it means. Ids are None where the record tells none."""

    offset: int
    record: SourceRecord
    meaning: Submission | Reroute | DeadLetter
    organization_id: str | None = None
    candidate_id: str | None = None
    command_id: str | None = None
    source: str | None = None
    type: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Batch(NamedTuple):
    """Records that one transaction will settle, and where the lane stands after them."""

    items: list[Item]
    next_offset: int
    last_digest: bytes


class Decoder:
    """Knows the lanes and the rules; holds no state."""

    def __init__(self, *, lane: int, partitions_total: int, parser: CommandParser) -> None:
        self._lane = lane
        self._partitions_total = partitions_total
        self._parser = parser

    def decode(self, records: Sequence[KafkaRecord], next_offset: int) -> Batch:
        """The batch of these records, which must not be empty."""
        items = [self._item(record) for record in records]
        return Batch(items, next_offset, record_digest(items[-1].record))

    def _item(self, received: KafkaRecord) -> Item:
        record = SourceRecord(
            received.key, received.value, received.headers, received.timestamp
        )
        try:
            envelope = read_envelope(record)
        except Undecodable as error:
            return Item(received.offset, record, DeadLetter(error.code, error.detail))
        organization_id = _uuid(envelope.data, "organization_id")
        known = Item(
            received.offset,
            record,
            DeadLetter("no_identity", "The data names no organization."),
            organization_id,
            _uuid(envelope.data, "candidate_id"),
            envelope.command_id,
            envelope.source,
            envelope.type,
            _actor(envelope.data),
            envelope.traceparent,
            envelope.tracestate,
        )
        if organization_id is None:
            return known
        if envelope.type not in KNOWN_TYPES:
            unknown = DeadLetter("unknown_type", "This version knows no such command type.")
            return known._replace(meaning=unknown)
        home = home_lane(organization_id, self._partitions_total)
        if home != self._lane:
            return known._replace(meaning=Reroute(home))
        try:
            return known._replace(meaning=self._submission(envelope, organization_id))
        except RecursionError:
            deep = DeadLetter("not_json", "The data is nested too deeply.")
            return known._replace(meaning=deep)

    def _submission(self, envelope: Envelope, organization_id: str) -> Submission:
        identity = Identity(organization_id, envelope.source, envelope.command_id)
        digest = _digest(envelope)
        try:
            command = self._parser.parse(envelope.type, envelope.data)
        except InvalidCommand as error:
            return Submission(identity, identity.key, digest, None, error.errors)
        return Submission(identity, identity.key, digest, command)


def record_digest(record: SourceRecord) -> bytes:
    """16 bytes over a whole record: tells whether a topic still holds what was read."""
    return blake2b(pack(record), digest_size=16).digest()


def _digest(envelope: Envelope) -> bytes:
    if envelope.exact:
        try:
            return command_digest(envelope.type, envelope.data)
        except TypeError:  # orjson writes no more than 254 levels
            pass
    text = json.dumps(envelope.data, sort_keys=True, separators=(",", ":"))
    return blake2b(f"{envelope.type}\n{text}".encode(), digest_size=16).digest()


def _uuid(data: Any, name: str) -> str | None:
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value.lower()
    return None


def _actor(data: Any) -> str | None:
    """The actor for the audit trail, if it is one; validation has the last word."""
    actor = data.get("actor")
    return actor if isinstance(actor, str) and actor.isprintable() and len(actor) <= 200 else None
