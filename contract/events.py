"""Output events as pure functions of a journal row (CONTRACT.md 5).

Every event of a partition of results or changes carries its sequence as `ce_id`, `ce_sequence`
and `data.sequence`; the bytes depend on the row, the topic names and the source, nothing else.
"""

from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from contract.journal import JournalRow, timestamp_text
from contract.record import SourceRecord, record_bytes, unpack, writable_headers
from contract.topics import OUTPUT_MESSAGE_BYTES_MAX, Topics

SETTLED = "candidate.command.settled.v1"
REROUTED = "candidate.command.rerouted.v1"
DEAD_LETTERED = "candidate.command.dead-lettered.v1"
CREATED = "candidate.created.v1"
UPDATED = "candidate.updated.v1"
REPAIRED = "candidate.repaired.v1"
PROGRESSED = "bulk-operation.progressed.v1"
COMPLETED = "bulk-operation.completed.v1"
ERASED = "candidate.erased.v1"
"""On results: an erasure is done. On changes, without data: the tombstone of a candidate."""

SCHEMA_URI = "urn:gulf-funnel:schema:"
DEFAULT_SOURCE = "/gulf-funnel/candidates"

_HEADERS_ROOM = 64 * 1024
"""What a dead letter's own headers and Kafka's framing may add: a guess with a wide margin."""
_Header = tuple[str, bytes | None]
_FIXED: dict[str, tuple[_Header, ...]] = {
    event_type: (
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_type", event_type.encode()),
        ("ce_dataschema", (SCHEMA_URI + event_type).encode()),
    )
    for event_type in (
        SETTLED, REROUTED, DEAD_LETTERED, CREATED, UPDATED, PROGRESSED, COMPLETED, ERASED,
        REPAIRED,
    )
}  # fmt: skip
_TOMBSTONE: tuple[_Header, ...] = (("ce_specversion", b"1.0"), ("ce_type", ERASED.encode()))
"""Of an event without data: no content type, no schema."""


class OutputRecord(NamedTuple):
    """One record to be written: where, and what. `timestamp` in milliseconds."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[_Header]
    timestamp: int


class EventBuilder:
    """Turns journal rows into the records of one deployment."""

    def __init__(self, topics: Topics, source: str = DEFAULT_SOURCE) -> None:
        self._topics = topics
        self._source: _Header = ("ce_source", source.encode())

    def records(self, row: JournalRow) -> list[OutputRecord]:
        """Everything that this row publishes: what goes to results first, if anything does."""
        match row.kind:
            case "command" if row.change_sequence is not None:
                return [self.result(row), self.change(row)]
            case "command":
                return [self.result(row)]
            case "reroute":
                notice = self._rerouted(row)
                erased = row.forward is None
                return [notice] if erased else [notice, self._rerouted_command(row)]
            case "dead_letter":
                return [self.dead_lettered(row), self._dead_letter(row)]
            case "item":
                return [self.change(row)]
            case "progress":
                return [self._operation_news(row, PROGRESSED)]
            case "completed":
                return [self._operation_news(row, COMPLETED)]
            case "erased":
                return [self._erased(row)]
            case "repair":
                return [self._repaired(row)]

    def result(self, row: JournalRow) -> OutputRecord:
        """`candidate.command.settled.v1`, the one result of a command."""
        data: dict[str, Any] = {
            "command_id": row.command_id,
            "command_source": row.command_source,
            "command_type": row.command_type,
            "organization_id": row.organization_id,
        }
        if row.candidate_id is not None:
            data["candidate_id"] = row.candidate_id
        if row.operation_id is not None:
            data["operation_id"] = row.operation_id
        data["outcome"] = row.outcome
        if row.reason is not None:
            data["reason"] = row.reason
        if row.version is not None:
            data["version"] = row.version
        if row.previous_version is not None:
            data["previous_version"] = row.previous_version
        if row.details is not None:
            data.update(orjson.loads(row.details))
        data["sequence"] = row.result_sequence
        data["settled_at"] = timestamp_text(row.recorded_at)
        return self._on_results(row, SETTLED, orjson.dumps(data))

    def change(self, row: JournalRow) -> OutputRecord:
        """`candidate.created.v1` or `candidate.updated.v1`, one new version of a candidate.

        Where the row has no data: the tombstone, of the erasure itself or in place of what it made
        unreadable.
        """
        sequence = row.change_sequence or 0
        if row.change is None:
            fixed = _TOMBSTONE
        else:
            fixed = _FIXED[CREATED if row.previous_version is None else UPDATED]
        return OutputRecord(
            self._topics.changes,
            row.lane,
            f"{row.organization_id}/{row.candidate_id}".encode(),
            row.change,
            self._headers(row, fixed, self._topics.changes, sequence),
            _milliseconds(row.recorded_at),
        )

    def _operation_news(self, row: JournalRow, event_type: str) -> OutputRecord:
        data: dict[str, Any] = {
            "operation_id": row.operation_id,
            "organization_id": row.organization_id,
            "command_id": row.command_id,
            "command_source": row.command_source,
            **orjson.loads(row.details or b"{}"),
            "sequence": row.result_sequence,
            "recorded_at": timestamp_text(row.recorded_at),
        }
        return self._on_results(row, event_type, orjson.dumps(data))

    def _erased(self, row: JournalRow) -> OutputRecord:
        data: dict[str, Any] = {
            "organization_id": row.organization_id,
            "candidate_id": row.candidate_id,
            "command_id": row.command_id,
            "command_source": row.command_source,
            **orjson.loads(row.details or b"{}"),
            "sequence": row.result_sequence,
            "recorded_at": timestamp_text(row.recorded_at),
        }
        return self._on_results(row, ERASED, orjson.dumps(data))

    def _repaired(self, row: JournalRow) -> OutputRecord:
        data: dict[str, Any] = {
            "organization_id": row.organization_id,
            "candidate_id": row.candidate_id,
            "version": row.version,
            "actor": row.actor,
            **orjson.loads(row.details or b"{}"),
            "sequence": row.result_sequence,
            "recorded_at": timestamp_text(row.recorded_at),
        }
        return self._on_results(row, REPAIRED, orjson.dumps(data))

    def _rerouted(self, row: JournalRow) -> OutputRecord:
        data = self._notice_data(row) | {"from_partition": row.lane}
        data |= orjson.loads(row.details or b"{}")
        return self._on_results(row, REROUTED, orjson.dumps(data))

    def _rerouted_command(self, row: JournalRow) -> OutputRecord:
        home = orjson.loads(row.details or b"{}")["to_partition"]
        record = unpack(row.forward or b"")
        return OutputRecord(
            self._topics.commands,
            home,
            record.key,
            record.value,
            writable_headers(record.headers),
            record.timestamp,
        )

    def dead_lettered(self, row: JournalRow) -> OutputRecord:
        """`candidate.command.dead-lettered.v1`, the notice of a dead letter."""
        data = self._notice_data(row)
        data["error_code"] = orjson.loads(row.details or b"{}")["error_code"]
        return self._on_results(row, DEAD_LETTERED, orjson.dumps(data))

    def _dead_letter(self, row: JournalRow) -> OutputRecord:
        details = orjson.loads(row.details or b"{}")
        record = unpack(row.forward or b"")
        ours: list[_Header] = [
            ("x-original-topic", self._topics.commands.encode()),
            ("x-original-partition", str(row.lane).encode()),
            ("x-original-offset", str(row.source_offset).encode()),
            ("x-original-timestamp", str(record.timestamp).encode()),
            ("x-error-code", details["error_code"].encode()),
            ("x-error-detail", details["error_detail"].encode()),
        ]
        if not _fits(record):
            ours += _size_and_digest(record.value or b"")
            record = record._replace(value=None)
        if not _fits(record):
            record = record._replace(key=None, headers=())
        return OutputRecord(
            self._topics.dead_letters,
            row.lane,
            record.key,
            record.value,
            [*writable_headers(record.headers), *ours],
            _milliseconds(row.recorded_at),  # an old one's would end its retention at once
        )

    def _notice_data(self, row: JournalRow) -> dict[str, Any]:
        data: dict[str, Any] = {
            "origin": {
                "topic": self._topics.commands,
                "partition": row.lane,
                "offset": row.source_offset,
            }
        }
        for name in ("command_id", "command_source", "command_type", "organization_id"):
            if (value := getattr(row, name)) is not None:
                data[name] = value
        data["sequence"] = row.result_sequence
        data["recorded_at"] = timestamp_text(row.recorded_at)
        return data

    def _on_results(self, row: JournalRow, event_type: str, value: bytes) -> OutputRecord:
        return OutputRecord(
            self._topics.results,
            row.lane,
            row.organization_id.encode() if row.organization_id else None,
            value,
            self._headers(row, _FIXED[event_type], self._topics.results, row.result_sequence),
            _milliseconds(row.recorded_at),
        )

    def _headers(
        self, row: JournalRow, fixed: tuple[_Header, ...], topic: str, sequence: int
    ) -> list[_Header]:
        headers = [
            *fixed,
            self._source,
            ("ce_id", event_id(topic, row.lane, sequence).encode()),
            _time_header(row.recorded_at),
            ("ce_sequence", b"%020d" % sequence),
        ]
        if row.candidate_id is not None:
            headers.append(("ce_subject", row.candidate_id.encode()))
        if row.command_id is not None:
            headers.append(("ce_correlationid", row.command_id.encode()))
        if row.traceparent is not None:
            headers.append(("traceparent", row.traceparent.encode()))
        if row.tracestate is not None:
            headers.append(("tracestate", row.tracestate.encode()))
        return headers


def event_id(topic: str, partition: int, sequence: int) -> str:
    """The `ce_id` of an output event: the same event always has the same id."""
    return f"{topic}/{partition}/{sequence}"


@lru_cache(maxsize=64)
def _time_header(instant: datetime) -> _Header:
    return ("ce_time", timestamp_text(instant).encode())


@lru_cache(maxsize=64)
def _milliseconds(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _fits(record: SourceRecord) -> bool:
    return record_bytes(record) <= OUTPUT_MESSAGE_BYTES_MAX - _HEADERS_ROOM


def _size_and_digest(value: bytes) -> list[_Header]:
    return [
        ("x-original-size", str(len(value)).encode()),
        ("x-original-sha256", sha256(value).hexdigest().encode()),
    ]
