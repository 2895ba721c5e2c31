"""Journal rows made again from what they once published, and from the commands they settled.

Pure. A row is believed only if the events built from it are, byte for byte, the records that the
topics hold; what cannot be made so is refused, never guessed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from audit.output_log import LogRecord
from contract.dead_letters import redrive_of
from contract.envelope import Undecodable, read_envelope
from contract.events import (
    COMPLETED,
    DEAD_LETTERED,
    ERASED,
    PROGRESSED,
    REPAIRED,
    REROUTED,
    SETTLED,
    EventBuilder,
)
from contract.journal import JournalRow
from contract.record import SourceRecord, pack
from domain.commands import BULK_TYPES, ERASE
from domain.identity import Identity, command_digest
from domain.limits import ACTOR_CHARACTERS_MAX

_TOLD_BY_COLUMNS = frozenset(
    {
        "command_id",
        "command_source",
        "command_type",
        "organization_id",
        "candidate_id",
        "operation_id",
        "outcome",
        "reason",
        "version",
        "previous_version",
        "sequence",
        "settled_at",
    }
)
_ERASED_DETAILS = ("accepted_at", "journal_rows", "operations", "dead_letters")
_UNSETTLED_REASONS = ("too_old", "id_reused")


class RecoverRefused(Exception):
    """The topics do not tell the whole of what was lost; the message says what is missing."""


class Place(NamedTuple):
    """The numbers that the next row of a lane gets, and the record that came before it."""

    lane: int
    journal_sequence: int
    change_sequence: int
    last_offset: int


class Told(NamedTuple):
    """What the topics tell of one unit: its result, the command, its change, its dead letter.

    Of `candidate.erased.v1` and `candidate.repaired.v1` there is only the one record: no command
    came with it.
    """

    result: LogRecord
    command: LogRecord | None
    change: LogRecord | None
    dead_letter: LogRecord | None


def lost_row(told: Told, place: Place, builder: EventBuilder) -> JournalRow:
    """The row that published these records.

    Raises:
        RecoverRefused: they do not belong together, or another row published them.
    """
    headers = dict(told.result.headers)
    data = orjson.loads(told.result.value or b"{}")
    row = _empty(told, place, headers, data)
    match (headers.get("ce_type") or b"").decode():
        case type_ if type_ == SETTLED:
            row = _settled(row, told, data)
        case type_ if type_ == REROUTED:
            details = {"to_partition": data.get("to_partition")}
            row = row._replace(kind="reroute", details=orjson.dumps(details))
        case type_ if type_ == DEAD_LETTERED:
            row = row._replace(kind="dead_letter", details=_dead_letter_details(told, data))
        case type_ if type_ == ERASED:
            counts = {name: data.get(name) for name in _ERASED_DETAILS}
            row = row._replace(kind="erased", details=orjson.dumps(counts))
        case type_ if type_ == REPAIRED:
            row = row._replace(
                kind="repair",
                actor=data["actor"],
                version=data["version"],
                details=orjson.dumps({"fields": data["fields"]}),
            )
        case other:
            raise RecoverRefused(
                f"this version knows no result of type {other!r}: use the one that wrote it"
            )
    if row.kind in ("reroute", "dead_letter"):
        command = _command_of(told)
        row = row._replace(forward=pack(source_record(command)), actor=_actor(command))
    _demand_same(row, told, builder)
    return row


def settled_again(result: LogRecord) -> bool:
    """Is it of a bulk operation, which has tables that only settling it again can fill?"""
    event_type, data = _told_by(result)
    if event_type in (PROGRESSED, COMPLETED):
        return True
    nothing_done = data.get("outcome") in ("rejected", "duplicate")
    return event_type == SETTLED and data["command_type"] in BULK_TYPES and not nothing_done


def repairs(result: LogRecord) -> bool:
    """Does it tell of a row of a candidate that was made again what the journal says?"""
    return _told_by(result)[0] == REPAIRED


def _told_by(result: LogRecord) -> tuple[str, dict[str, Any]]:
    event_type = (dict(result.headers).get("ce_type") or b"").decode()
    return event_type, orjson.loads(result.value or b"{}")


def source_record(record: LogRecord) -> SourceRecord:
    """A command as the consumer saw it."""
    return SourceRecord(record.key, record.value, tuple(record.headers), record.timestamp)


def erases(row: JournalRow) -> bool:
    """Did it accept the erasure of a candidate?"""
    return row.command_type == ERASE and row.outcome == "accepted"


def erasure_reason(command: LogRecord) -> str:
    """Why a candidate was erased, as the command says."""
    return str(read_envelope(source_record(command)).data["reason"]).strip()


def _command_of(told: Told) -> LogRecord:
    if told.command is None:
        raise RecoverRefused("its command is not there")
    return told.command


def _empty(
    told: Told, place: Place, headers: Mapping[str, bytes | None], data: dict[str, Any]
) -> JournalRow:
    fields: dict[str, Any] = dict.fromkeys(JournalRow._fields)
    fields["builder"] = JournalRow._field_defaults["builder"]
    fields |= {
        "recorded_at": datetime.fromisoformat(data.get("settled_at") or data["recorded_at"]),
        "lane": place.lane,
        "journal_sequence": place.journal_sequence,
        "result_sequence": data["sequence"],
        "source_offset": place.last_offset if told.command is None else told.command.offset,
        "organization_id": data.get("organization_id"),
        "candidate_id": _text(headers.get("ce_subject")),
        "operation_id": data.get("operation_id"),
        "command_id": data.get("command_id"),
        "command_source": data.get("command_source"),
        "command_type": data.get("command_type"),
        "traceparent": _text(headers.get("traceparent")),
        "tracestate": _text(headers.get("tracestate")),
    }
    return JournalRow(**fields)


def _settled(row: JournalRow, told: Told, data: dict[str, Any]) -> JournalRow:
    command = _command_of(told)
    try:
        envelope = read_envelope(source_record(command))
    except Undecodable as error:
        raise RecoverRefused("the command of this result cannot be read any more") from error
    if (envelope.command_id, envelope.source) != (row.command_id, row.command_source):
        raise RecoverRefused("the command at this place is another one than the result's")
    outcome, reason = data["outcome"], data.get("reason")
    settles = outcome != "duplicate" and reason not in _UNSETTLED_REASONS
    identity = Identity(str(row.organization_id), envelope.source, envelope.command_id).key
    rest = {name: value for name, value in data.items() if name not in _TOLD_BY_COLUMNS}
    return row._replace(
        kind="command",
        identity=identity if settles else None,
        digest=command_digest(envelope.type, envelope.data),
        actor=_actor(command),
        outcome=outcome,
        reason=reason,
        version=data.get("version"),
        previous_version=data.get("previous_version"),
        details=orjson.dumps(rest) if rest else None,
        change_sequence=None if told.change is None else told.change.position,
        change=None if told.change is None else told.change.value,
    )


def _dead_letter_details(told: Told, data: dict[str, Any]) -> bytes:
    if told.dead_letter is None:
        raise RecoverRefused("the dead letter of this result has expired")
    detail = _text(dict(told.dead_letter.headers).get("x-error-detail"))
    details = {"error_code": data.get("error_code"), "error_detail": detail}
    if (first_death := redrive_of(source_record(_command_of(told)))) is not None:
        details["redrive_of"] = first_death
    return orjson.dumps(details)


def _demand_same(row: JournalRow, told: Told, builder: EventBuilder) -> None:
    """The proof: what this row would publish is what is there."""
    known = [each for each in (told.result, told.change, told.dead_letter) if each is not None]
    there = [(each.key, each.value, each.headers) for each in known]
    built = [(each.key, each.value, each.headers) for each in builder.records(row)]
    if row.kind == "reroute":
        built = built[:1]  # the command itself went to another lane
    if built != there:
        raise RecoverRefused("its records are not those that this version builds")


def _actor(record: LogRecord) -> str | None:
    """As the consumer keeps it: what the command says, if it can be a name."""
    try:
        data = read_envelope(source_record(record)).data
    except Undecodable:
        return None
    actor = data.get("actor") if isinstance(data, dict) else None
    fits = isinstance(actor, str) and actor.isprintable() and len(actor) <= ACTOR_CHARACTERS_MAX
    return actor if fits else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
