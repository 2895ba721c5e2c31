"""A command on its way out, and the Kafka record that carries it (CONTRACT.md 1 to 3).

Key and partition follow from the organization alone, so every command of one organization goes
to its home lane; the value is `data` exactly as given, which is what its digest is taken of.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypedDict, Unpack
from uuid import UUID

import orjson
from uuid_utils.compat import uuid7

from contract.topics import COMMAND_MESSAGE_BYTES_MAX
from domain.candidate import BulkChanges, Changes, NewCandidate
from domain.commands import BULK_CONTROL, BULK_UPDATE, Action, CommandParser, OnConflict
from domain.field_errors import FieldError, InvalidCommand
from domain.identity import Identity, home_lane
from domain.limits import COMMAND_ID_CHARACTERS_MAX
from producer.command_errors import CommandTooLarge

Id = str | UUID

# Framing of a batch and of its record beside key, value and headers: 61 + 21 bytes and varints.
_FRAMING_BYTES_MAX = 1024
_FIXED = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]


def new_command_id() -> str:
    """A fresh UUIDv7, which also tells the service how old the command is."""
    return str(uuid7())


class EnvelopeFields(TypedDict, total=False):
    """What identifies a command and tells its trace; see `OutgoingCommand`."""

    id: str
    source: str
    traceparent: str
    tracestate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingCommand:
    """One command: its `ce_type`, its `data`, and who it is.

    Attributes:
        id: `ce_id`. Sending again with the same id and data never has a second effect.
        source: `ce_source`; None stands for the client's own.
        traceparent: W3C trace context, kept from the command to the events it causes.
    """

    type: str
    data: Mapping[str, Any]
    id: str = field(default_factory=new_command_id)
    source: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    @classmethod
    def create(
        cls,
        *,
        organization_id: Id,
        candidate_id: Id,
        candidate: NewCandidate,
        actor: str,
        **envelope: Unpack[EnvelopeFields],
    ) -> "OutgoingCommand":
        """`candidate.create.v1`."""
        data = {
            "organization_id": str(organization_id),
            "candidate_id": str(candidate_id),
            "actor": actor,
            "candidate": candidate,
        }
        return cls(type="candidate.create.v1", data=data, **envelope)

    @classmethod
    def update(
        cls,
        *,
        organization_id: Id,
        candidate_id: Id,
        changes: Changes,
        actor: str,
        expected_version: int | None = None,
        on_conflict: OnConflict = "reject",
        **envelope: Unpack[EnvelopeFields],
    ) -> "OutgoingCommand":
        """`candidate.update.v1`."""
        data: dict[str, Any] = {
            "organization_id": str(organization_id),
            "candidate_id": str(candidate_id),
            "actor": actor,
            "changes": changes,
        }
        if expected_version is not None:
            data |= {"expected_version": expected_version, "on_conflict": on_conflict}
        return cls(type="candidate.update.v1", data=data, **envelope)

    @classmethod
    def bulk_update(
        cls,
        *,
        organization_id: Id,
        changes: BulkChanges,
        actor: str,
        candidate_ids: Iterable[Id] | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002  the contract's name
        expected_versions: Mapping[str, int] | None = None,
        on_conflict: OnConflict = "reject",
        dry_run: bool = False,
        **envelope: Unpack[EnvelopeFields],
    ) -> "OutgoingCommand":
        """`candidate.bulk-update.v1`; exactly one of `candidate_ids` and `filter`."""
        data: dict[str, Any] = {
            "organization_id": str(organization_id),
            "actor": actor,
            "changes": changes,
            "on_conflict": on_conflict,
            "dry_run": dry_run,
        }
        if candidate_ids is not None:
            data["candidate_ids"] = [str(each) for each in candidate_ids]
        if filter is not None:
            data["filter"] = filter
        if expected_versions is not None:
            data["expected_versions"] = expected_versions
        return cls(type=BULK_UPDATE, data=data, **envelope)

    @classmethod
    def control(
        cls,
        *,
        organization_id: Id,
        operation_id: Id,
        action: Action,
        actor: str,
        **envelope: Unpack[EnvelopeFields],
    ) -> "OutgoingCommand":
        """`bulk-operation.control.v1`."""
        data = {
            "organization_id": str(organization_id),
            "operation_id": str(operation_id),
            "action": action,
            "actor": actor,
        }
        return cls(type=BULK_CONTROL, data=data, **envelope)

    @classmethod
    def erase(
        cls,
        *,
        organization_id: Id,
        candidate_id: Id,
        actor: str,
        reason: str,
        **envelope: Unpack[EnvelopeFields],
    ) -> "OutgoingCommand":
        """`candidate.erase.v1`; actor and reason are kept for good."""
        data = {
            "organization_id": str(organization_id),
            "candidate_id": str(candidate_id),
            "actor": actor,
            "reason": reason,
        }
        return cls(type="candidate.erase.v1", data=data, **envelope)


class CommandRecord(NamedTuple):
    """What Kafka is given; `timestamp` in milliseconds since the epoch."""

    identity: Identity
    partition: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    timestamp: int

    @property
    def size(self) -> int:
        """Bytes of key, value and headers, as the service counts them."""
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return len(self.key) + len(self.value) + headers


def command_record(
    command: OutgoingCommand,
    *,
    source: str,
    partitions_total: int,
    parser: CommandParser | None = None,
) -> CommandRecord:
    """The record of a command, in CloudEvents binary mode.

    Args:
        source: the `ce_source` of a command that names none.
        parser: checks the command as the service would; None leaves that to the service.

    Raises:
        InvalidCommand: `data` names no organization, or the parser refuses it.
        ValueError: the type, the id or the source is empty or too long.
        TypeError: `data` holds what JSON cannot carry.
        CommandTooLarge: it has more bytes than the topic takes.
    """
    organization_id = organization_of(command.data)
    identity = Identity(
        organization_id,
        _attribute("source", command.source or source),
        _attribute("id", command.id),
    )
    value = orjson.dumps(command.data)
    timestamp = time.time_ns() // 1_000_000
    record = CommandRecord(
        identity=identity,
        partition=home_lane(organization_id, partitions_total),
        key=organization_id.encode(),
        value=value,
        headers=_headers(command, identity, timestamp),
        timestamp=timestamp,
    )
    if record.size > COMMAND_MESSAGE_BYTES_MAX - _FRAMING_BYTES_MAX:
        raise CommandTooLarge(f"The command has {record.size} bytes.")
    if parser is not None:
        check(parser, command.type, value)
    return record


def organization_of(data: Mapping[str, Any]) -> str:
    """The organization in its canonical form: the key, the lane and the result depend on it."""
    given = data.get("organization_id")
    if given is None:
        raise InvalidCommand((FieldError("/organization_id", "missing", "The field is required."),))
    try:
        return str(UUID(given))
    except (AttributeError, TypeError, ValueError):
        error = FieldError("/organization_id", "malformed", "A UUID is required.")
        raise InvalidCommand((error,)) from None


def check(parser: CommandParser, command_type: str, value: bytes) -> None:
    """Check the JSON that will be sent; raises `InvalidCommand` or, on the type, ValueError."""
    try:
        parser.parse(command_type, orjson.loads(value))
    except KeyError:
        raise ValueError(f"The command type {command_type!r} is not known.") from None


def _headers(
    command: OutgoingCommand, identity: Identity, timestamp: int
) -> list[tuple[str, bytes]]:
    made_at = datetime.fromtimestamp(timestamp / 1000, UTC).isoformat(timespec="milliseconds")
    headers = [
        *_FIXED,
        ("ce_id", identity.command_id.encode()),
        ("ce_source", identity.source.encode()),
        ("ce_type", _attribute("type", command.type).encode()),
        ("ce_time", made_at.replace("+00:00", "Z").encode()),
    ]
    candidate_id = command.data.get("candidate_id")
    if isinstance(candidate_id, str) and candidate_id:
        headers.append(("ce_subject", candidate_id.encode()))
    if command.traceparent is not None:
        headers.append(("traceparent", command.traceparent.encode()))
    if command.tracestate is not None:
        headers.append(("tracestate", command.tracestate.encode()))
    return headers


def _attribute(name: str, text: str) -> str:
    if not text or len(text) > COMMAND_ID_CHARACTERS_MAX or "\0" in text:
        raise ValueError(f"The {name} needs 1 to {COMMAND_ID_CHARACTERS_MAX} characters, no NUL.")
    return text
