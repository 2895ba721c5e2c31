"""Decode: records to what each of them means for this lane, in order.

Total: every record becomes a submission, a reroute or a dead letter; nothing raises.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from contract.envelope import Envelope, Undecodable, read_envelope
from contract.record import RawRecord, record_digest
from domain.commands import (
    BULK_TYPES,
    KNOWN_TYPES,
    Command,
    CommandParser,
    FieldError,
    InvalidCommand,
)
from domain.decide import Submission
from domain.identity import Identity, command_digest, home_lane
from domain.outcomes import DeadLetterCode

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class KafkaRecord(RawRecord, Protocol):
    """What we need of aiokafka's ConsumerRecord."""

    @property
    def offset(self) -> int: ...


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
    record: KafkaRecord
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
    """Records that one transaction will settle, and where the lane stands after them.

    `bulk`: there may be bulk or control commands among them.
    """

    items: list[Item]
    next_offset: int
    last_digest: bytes
    bulk: bool = False


def cut(batch: Batch, index: int) -> tuple[Batch, Batch]:
    """The first `index` items, and the rest; neither may be empty."""
    first, rest = batch.items[:index], batch.items[index:]
    digest = record_digest(first[-1].record)
    return (
        Batch(first, rest[0].offset, digest, batch.bulk),
        batch._replace(items=rest),
    )


class Decoder:
    """Knows the lanes and the rules; holds no state."""

    def __init__(self, *, lane: int, partitions_total: int, parser: CommandParser) -> None:
        self._lane = lane
        self._partitions_total = partitions_total
        self._parser = parser

    def decode(self, records: Sequence[KafkaRecord], next_offset: int) -> Batch:
        """The batch of these records, which must not be empty."""
        items = [self._item(record) for record in records]
        bulk = any(item.type in BULK_TYPES for item in items)
        return Batch(items, next_offset, record_digest(items[-1].record), bulk)

    def _item(self, record: KafkaRecord) -> Item:
        try:
            envelope = read_envelope(record)
            meaning, organization_id, candidate_id, actor = self._meaning(envelope)
        except Undecodable as error:
            return Item(record.offset, record, DeadLetter(error.code, error.detail))
        return Item(
            record.offset,
            record,
            meaning,
            organization_id,
            candidate_id,
            envelope.command_id,
            envelope.source,
            envelope.type,
            actor,
            envelope.traceparent,
            envelope.tracestate,
        )

    def _meaning(
        self, envelope: Envelope
    ) -> tuple[Submission | Reroute | DeadLetter, str | None, str | None, str | None]:
        """What the record means, and organization, candidate and actor as far as it tells them."""
        data = envelope.data
        command: Command | None = None
        errors: tuple[FieldError, ...] = ()
        if envelope.type in KNOWN_TYPES and isinstance(data, dict):
            try:
                command = self._parser.parse(envelope.type, data)
            except InvalidCommand as error:
                errors = error.errors
        told: tuple[str | None, str | None, str | None]
        if command is not None:
            told = command.organization_id, command.candidate_id, command.actor
        else:
            told = _uuid(data, "organization_id"), _uuid(data, "candidate_id"), _actor(data)
        organization_id = told[0]
        if organization_id is None:
            return DeadLetter("no_identity", "The data names no organization."), *told
        if envelope.type not in KNOWN_TYPES:
            return DeadLetter("unknown_type", "This version knows no such command type."), *told
        home = home_lane(organization_id, self._partitions_total)
        if home != self._lane:
            return Reroute(home), *told
        identity = Identity(organization_id, envelope.source, envelope.command_id)
        digest = command_digest(envelope.type, data)
        candidate = (organization_id, told[1]) if command is None and told[1] else None
        return Submission(identity, identity.key, digest, command, errors, candidate), *told


def _uuid(data: Any, name: str) -> str | None:
    value = data.get(name) if isinstance(data, dict) else None
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value.lower()
    return None


def _actor(data: Any) -> str | None:
    """The actor for the audit trail, if it is one; validation has the last word."""
    actor = data.get("actor") if isinstance(data, dict) else None
    return actor if isinstance(actor, str) and actor.isprintable() and len(actor) <= 200 else None
