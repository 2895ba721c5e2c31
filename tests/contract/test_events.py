"""Output events: what CONTRACT.md 2 and 5 promise of them, from journal rows."""

from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import kafka
from hypothesis import example, given
from hypothesis import strategies as st

from contract.events import EventBuilder, OutputRecord
from contract.journal import BUILDER, JournalRow, timestamp_text
from contract.record import SourceRecord, pack
from contract.schemas import adapter
from contract.topics import OUTPUT_MESSAGE_BYTES_MAX, Topics

TOPICS = Topics("test.")
ORGANIZATION = "0192f0c1-7c1e-7abc-8def-0123456789ab"
CANDIDATE = "0192f0c1-7c1e-7abc-8def-0123456789ac"
RECORDED_AT = datetime(2026, 11, 23, 12, 0, 0, 120, tzinfo=UTC)
MIB = 1024 * 1024

BUILD = EventBuilder(TOPICS, "/here").records


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
@example(datetime(2026, 11, 23, 12, tzinfo=UTC))
@example(datetime(2026, 11, 23, 12, 0, 0, 120000, tzinfo=UTC))
def test_timestamp_text__has_six_digits_of_a_second(instant: datetime) -> None:
    assert timestamp_text(instant) == instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def row(**fields: Any) -> JournalRow:
    base: dict[str, Any] = dict.fromkeys(JournalRow._fields) | {
        "recorded_at": RECORDED_AT,
        "lane": 5,
        "journal_sequence": 44,
        "result_sequence": 42,
        "kind": "command",
        "source_offset": 7,
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        "command_id": "id-1",
        "command_source": "/ats",
        "command_type": "candidate.update.v1",
        "outcome": "applied",
        "version": 3,
        "previous_version": 2,
        "builder": BUILDER,
    }
    return JournalRow(**base | fields)


def changed(**fields: Any) -> JournalRow:
    return row(change_sequence=9, change=b'{"state":{},"sequence":9}', **fields)


def set_aside(kind: str, record: SourceRecord, **details: Any) -> JournalRow:
    nothing = dict.fromkeys(("candidate_id", "outcome", "version", "previous_version"))
    packed = {"details": orjson.dumps(details), "forward": pack(record)}
    return row(kind=kind, **nothing, **packed)


def dead(record: SourceRecord, **fields: Any) -> JournalRow:
    aside = set_aside("dead_letter", record, error_code="not_json", error_detail="The detail.")
    return aside._replace(**fields)


UNKNOWN = dict.fromkeys(("organization_id", "command_id", "command_source", "command_type"))
SENT = SourceRecord(b"the key", b"\xffvalue", (("a", None), ("a", b"\xfe"), ("ce_id", b"1")), 1234)


def headers(record: OutputRecord) -> dict[str, bytes | None]:
    assert len(dict(record.headers)) == len(record.headers)
    return dict(record.headers)


def data(record: OutputRecord) -> dict[str, Any]:
    assert record.value is not None
    parsed: dict[str, Any] = orjson.loads(record.value)
    return parsed


def test_result__headers_key_and_partition() -> None:
    [result] = BUILD(row())
    assert (result.topic, result.partition) == ("test.candidates.results.v1", 5)
    assert result.key == ORGANIZATION.encode()
    found = headers(result)
    schema = found.pop("ce_dataschema") or b""
    assert b":" in schema
    assert schema.endswith(b"candidate.command.settled.v1")
    assert found == {
        "ce_specversion": b"1.0",
        "ce_id": b"test.candidates.results.v1/5/42",
        "ce_source": b"/here",
        "ce_type": b"candidate.command.settled.v1",
        "ce_time": b"2026-11-23T12:00:00.000120Z",
        "ce_subject": CANDIDATE.encode(),
        "ce_sequence": b"00000000000000000042",
        "ce_correlationid": b"id-1",
        "content-type": b"application/json",
    }


def test_result__source_by_default() -> None:
    [result] = EventBuilder(TOPICS).records(row())
    assert headers(result)["ce_source"] == b"/gulf-funnel/candidates"


def test_result__data() -> None:
    [result] = BUILD(row())
    assert data(result) == {
        "command_id": "id-1",
        "command_source": "/ats",
        "command_type": "candidate.update.v1",
        "organization_id": ORGANIZATION,
        "candidate_id": CANDIDATE,
        "outcome": "applied",
        "version": 3,
        "previous_version": 2,
        "sequence": 42,
        "settled_at": "2026-11-23T12:00:00.000120Z",
    }


def test_result__of_a_rejected_command_has_no_nulls() -> None:
    details = {"detail": "d", "errors": [{"pointer": "/a", "code": "c", "detail": "d"}]}
    nothing = dict.fromkeys(("candidate_id", "version", "previous_version"))
    rejected = row(outcome="rejected", reason="invalid", details=orjson.dumps(details), **nothing)
    [result] = BUILD(rejected)
    told = data(result)
    assert None not in told.values()
    assert told.items() >= {"outcome": "rejected", "reason": "invalid", **details}.items()
    assert "ce_subject" not in headers(result)


@pytest.mark.parametrize(
    ("previous", "event_type"), [(None, b"candidate.created.v1"), (2, b"candidate.updated.v1")]
)
def test_change__headers_key_and_exact_bytes(previous: int | None, event_type: bytes) -> None:
    result, change = BUILD(changed(previous_version=previous))
    assert result.topic == "test.candidates.results.v1"
    assert (change.topic, change.partition) == ("test.candidates.changes.v1", 5)
    assert change.key == f"{ORGANIZATION}/{CANDIDATE}".encode()
    assert change.value == b'{"state":{},"sequence":9}'
    found = headers(change)
    assert found["ce_type"] == event_type
    assert found["ce_id"] == b"test.candidates.changes.v1/5/9"
    assert found["ce_sequence"] == b"00000000000000000009"
    assert (found["ce_dataschema"] or b"").endswith(event_type)


def test_records__trace_headers_on_every_event() -> None:
    for event in BUILD(changed(traceparent="00-a-b-01", tracestate="k=v")):
        assert headers(event).items() >= {"traceparent": b"00-a-b-01", "tracestate": b"k=v"}.items()


def test_records__the_sdk_reads_them_as_cloudevents() -> None:
    rows = [changed(), dead(SENT), dead(SENT, **UNKNOWN)]
    rows += [set_aside("reroute", SENT, to_partition=2)]
    for published in rows:
        for event in BUILD(published):
            if event.topic in (TOPICS.dead_letters, TOPICS.commands):
                continue
            assert event.value is not None
            plain = {name: value or b"" for name, value in event.headers}
            parsed = kafka.from_kafka_event(kafka.KafkaMessage(plain, event.key, event.value))
            assert parsed.get_time() == RECORDED_AT
            assert parsed.get_data() == data(event)
            assert parsed.get_id() == f"{event.topic}/5/{data(event)['sequence']}"


def test_reroute__untouched_and_a_notice() -> None:
    notice, command = BUILD(set_aside("reroute", SENT, to_partition=2))
    assert command == OutputRecord(
        TOPICS.commands, 2, SENT.key, SENT.value, list(SENT.headers), SENT.timestamp
    )
    assert (notice.topic, notice.partition) == (TOPICS.results, 5)
    assert notice.key == ORGANIZATION.encode()
    found = headers(notice)
    assert found["ce_type"] == b"candidate.command.rerouted.v1"
    assert found["ce_id"] == b"test.candidates.results.v1/5/42"
    assert found["ce_correlationid"] == b"id-1"
    told = data(notice)
    assert (told["from_partition"], told["to_partition"], told["sequence"]) == (5, 2, 42)
    assert told["command_id"] == "id-1"


def test_dead_letter__untouched_and_a_notice() -> None:
    notice, letter = BUILD(dead(SENT))
    assert (letter.topic, letter.partition) == (TOPICS.dead_letters, 5)
    assert letter.timestamp == RECORDED_AT.timestamp() * 1000 // 1
    assert (letter.key, letter.value) == (SENT.key, SENT.value)
    assert tuple(letter.headers[:3]) == SENT.headers
    assert dict(letter.headers[3:]) == {
        "x-original-topic": TOPICS.commands.encode(),
        "x-original-partition": b"5",
        "x-original-offset": b"7",
        "x-original-timestamp": b"1234",
        "x-error-code": b"not_json",
        "x-error-detail": b"The detail.",
    }
    assert headers(notice)["ce_type"] == b"candidate.command.dead-lettered.v1"
    told = data(notice)
    assert told["error_code"] == "not_json"
    assert told["origin"] == {"topic": TOPICS.commands, "partition": 5, "offset": 7}
    assert (told["command_id"], notice.key) == ("id-1", ORGANIZATION.encode())


def test_dead_letter__of_nobody_has_a_notice_without_key() -> None:
    notice, _ = BUILD(dead(SENT, **UNKNOWN))
    assert notice.key is None
    assert data(notice).keys() == {"origin", "error_code", "sequence", "recorded_at"}
    assert not headers(notice).keys() & {"ce_correlationid", "ce_subject"}


def test_dead_letter__tombstone_stays_one() -> None:
    _, letter = BUILD(dead(SourceRecord(None, None, (), 0)))
    assert (letter.key, letter.value) == (None, None)


def test_dead_letter__too_large_carries_size_and_digest_instead_of_the_value() -> None:
    value = b"\x00" * (OUTPUT_MESSAGE_BYTES_MAX - 1)
    _, letter = BUILD(dead(SENT._replace(value=value)))
    assert (letter.key, letter.value) == (SENT.key, None)
    assert tuple(letter.headers[:3]) == SENT.headers
    found = dict(letter.headers)
    assert found["x-original-size"] == str(len(value)).encode()
    assert found["x-original-sha256"] == sha256(value).hexdigest().encode()
    assert found["x-error-code"] == b"not_json"


@pytest.mark.parametrize(
    "record",
    [
        SENT._replace(key=b"k" * 5 * MIB),
        SENT._replace(headers=(("h", b"x" * 5 * MIB),)),
        SENT._replace(headers=(("h", None),) * 2_000_000),
    ],
)
def test_dead_letter__of_which_no_part_fits(record: SourceRecord) -> None:
    _, letter = BUILD(dead(record))
    assert (letter.key, letter.value) == (None, None)
    assert dict(letter.headers)["x-original-size"] == b"6"
    assert len(letter.headers) == 8


def test_records__header_names_that_are_no_utf8_can_be_written_again() -> None:
    sent = SENT._replace(headers=((b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape"), b"x"),))
    for published in (dead(sent), set_aside("reroute", sent, to_partition=2)):
        assert BUILD(published)[1].headers[0] == ("caf\\xe9 é", b"x")


@given(st.integers(0, 5 * MIB), st.integers(0, 4096))
def test_dead_letter__always_fits_its_topic(value_bytes: int, headers_total: int) -> None:
    sent = SENT._replace(value=b"v" * value_bytes, headers=(("h", b""),) * headers_total)
    _, letter = BUILD(dead(sent))
    size = len(letter.key or b"") + len(letter.value or b"") + 100
    size += sum(len(name) + len(value or b"") + 10 for name, value in letter.headers)
    assert size <= OUTPUT_MESSAGE_BYTES_MAX


def test_records__the_same_row_gives_the_same_bytes() -> None:
    rows = [changed(traceparent="t"), dead(SENT), set_aside("reroute", SENT, to_partition=2)]
    for published in rows:
        copy = JournalRow(*published)._replace(
            recorded_at=datetime.fromisoformat("2026-11-23T12:00:00.000120+00:00")
        )
        assert EventBuilder(Topics("test."), "/here").records(copy) == BUILD(published)


def test_records__of_builder_1_are_fixed_for_ever() -> None:
    """Rows of builder 1 are republished for years: other bytes need another builder."""
    result, _ = BUILD(changed(details=b'{"detail":"d"}'))
    assert BUILDER == 1
    assert result.value == (
        b'{"command_id":"id-1","command_source":"/ats","command_type":"candidate.update.v1",'
        b'"organization_id":"0192f0c1-7c1e-7abc-8def-0123456789ab",'
        b'"candidate_id":"0192f0c1-7c1e-7abc-8def-0123456789ac",'
        b'"outcome":"applied","version":3,"previous_version":2,"detail":"d",'
        b'"sequence":42,"settled_at":"2026-11-23T12:00:00.000120Z"}'
    )


def test_topics__names_partitions_and_configs() -> None:
    specs = {spec.name: asdict(spec)["config"] for spec in Topics("p.").specs()}
    assert specs["p.candidates.commands.v1"]["max.message.bytes"] == str(4 * MIB)
    for output in ("results", "changes", "dead-letters"):
        assert specs[f"p.candidates.{output}.v1"]["max.message.bytes"] == str(5 * MIB)
    policies = {name.split(".")[2]: config["cleanup.policy"] for name, config in specs.items()}
    assert policies == {
        "commands": "delete", "results": "delete", "changes": "compact", "dead-letters": "delete"
    }  # fmt: skip
    lag = specs["p.candidates.changes.v1"]["min.compaction.lag.ms"]
    assert lag == str(7 * 24 * 3600 * 1000)


def test_tombstone__of_an_erasure_and_in_place_of_what_was_erased() -> None:
    erasure = row(
        command_type="candidate.erase.v1", outcome="accepted", change_sequence=9,
    )  # fmt: skip
    for erased in (erasure, changed()._replace(change=None)):
        _, tombstone = BUILD(erased)
        headers = dict(tombstone.headers)
        assert tombstone.key == f"{ORGANIZATION}/{CANDIDATE}".encode()
        assert tombstone.value is None
        assert headers["ce_type"] == b"candidate.erased.v1"
        assert headers["ce_id"] == b"test.candidates.changes.v1/5/9"
        assert headers["ce_sequence"] == b"%020d" % 9
        assert headers.keys().isdisjoint({"content-type", "ce_dataschema"})
    [item] = BUILD(changed(kind="item")._replace(change=None, outcome=None))
    assert item.value is None


def test_erased__tells_what_was_emptied_and_whose_command_it_was() -> None:
    told = {
        "accepted_at": "2026-11-23T12:00:00.000000Z", "journal_rows": 3, "operations": 1,
        "dead_letters": 0,
    }  # fmt: skip
    nothing = dict.fromkeys(("outcome", "version", "previous_version"))
    [record] = BUILD(row(kind="erased", details=orjson.dumps(told), **nothing))
    data = orjson.loads(record.value or b"")
    assert data.items() >= told.items()
    assert (data["candidate_id"], data["command_id"]) == (CANDIDATE, "id-1")
    assert adapter("candidate.erased.v1").validate_python(data) == data


def test_rerouted__of_an_erased_candidate_is_the_notice_alone() -> None:
    rerouted = set_aside("reroute", SourceRecord(None, b"{}", (), 1), to_partition=2)
    [notice] = BUILD(rerouted._replace(forward=None))
    assert dict(notice.headers)["ce_type"] == b"candidate.command.rerouted.v1"
