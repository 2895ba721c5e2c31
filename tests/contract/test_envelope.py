"""CloudEvents as we read them: both modes against the SDK, and whatever else a record may hold."""

import base64
import json
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given
from hypothesis import strategies as st

from contract.envelope import Envelope, Undecodable, read_envelope
from contract.record import Headers, SourceRecord
from domain.outcomes import DeadLetterCode

DATA = {"organization_id": "0192f0c1-7c1e-7abc-8def-0123456789ab", "n": [1, None, "ä"]}
EVENT = {
    "specversion": "1.0",
    "id": "id-1",
    "source": "/ats",
    "type": "candidate.update.v1",
    "data": DATA,
}
BINARY: dict[str, bytes | None] = {
    "ce_specversion": b"1.0",
    "ce_id": b"id-1",
    "ce_source": b"/ats",
    "ce_type": b"candidate.update.v1",
    "content-type": b"application/json",
}
STRUCTURED: dict[str, bytes | None] = {"content-type": b"application/cloudevents+json"}
ENVELOPE = Envelope("id-1", "/ats", "candidate.update.v1", DATA)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def record(value: bytes | None, headers: Headers) -> SourceRecord:
    return SourceRecord(b"key", value, headers, 0)


def binary(
    data: Any = DATA, headers: dict[str, bytes | None] = BINARY, **changed: bytes | None
) -> SourceRecord:
    """A binary mode record; names in `changed` stand for `ce_…`, an Ellipsis leaves one out."""
    value = data if isinstance(data, bytes) else json.dumps(data).encode()
    merged = headers | {f"ce_{name}": value for name, value in changed.items()}
    return record(value, tuple(merged.items()))


def structured(event: Any = EVENT, **changed: Any) -> SourceRecord:
    if isinstance(event, bytes):
        return record(event, tuple(STRUCTURED.items()))
    return record(json.dumps(event | changed).encode(), tuple(STRUCTURED.items()))


def without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


def code(received: SourceRecord) -> DeadLetterCode:
    with pytest.raises(Undecodable) as refused:
        read_envelope(received)
    assert 0 < len(refused.value.detail) < 100
    return refused.value.code


def sdk_record(message: kafka.KafkaMessage) -> SourceRecord:
    return record(message.value, tuple(message.headers.items()))


# Against the SDK.


@given(TEXT.filter(lambda t: len(t) <= 200), TEXT, st.dictionaries(st.text(), JSON, max_size=4))
def test_read_envelope__both_modes_of_the_sdk(
    command_id: str, command_type: str, data: dict[str, Any]
) -> None:
    command_type = command_type[:200]
    attributes = {"id": command_id, "source": "/ats", "type": command_type, "specversion": "1.0"}
    event = CloudEvent(attributes | {"datacontenttype": "application/json"}, data)
    expected = Envelope(command_id, "/ats", command_type, data)
    assert read_envelope(sdk_record(kafka.to_binary_event(event))) == expected
    assert read_envelope(sdk_record(kafka.to_structured_event(event))) == expected


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_read_envelope__base64_of_the_sdk(data: dict[str, Any]) -> None:
    attributes = without(EVENT, "data") | {"datacontenttype": "application/octet-stream"}
    event = CloudEvent(attributes, json.dumps(data).encode())
    message = kafka.to_structured_event(event)
    assert b"data_base64" in message.value
    assert read_envelope(sdk_record(message)).data == data


# Good ones.


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"APPLICATION/JSON",
        b"application/merge-patch+json",
        b"",
        None,
    ],
)
def test_read_envelope__json_content_types(content_type: bytes | None) -> None:
    assert read_envelope(binary(headers=BINARY | {"content-type": content_type})) == ENVELOPE


def test_read_envelope__without_content_type() -> None:
    assert read_envelope(binary(headers=without(BINARY, "content-type"))) == ENVELOPE


@pytest.mark.parametrize(
    "content_type",
    [b"application/cloudevents+json", b"application/cloudevents+json; charset=UTF-8"],
)
def test_read_envelope__structured(content_type: bytes) -> None:
    received = structured()._replace(headers=(("content-type", content_type),))
    assert read_envelope(received) == ENVELOPE


def test_read_envelope__structured_whatever_the_headers_say() -> None:
    headers = tuple({**BINARY, "ce_id": b"other", **STRUCTURED}.items())
    assert read_envelope(structured()._replace(headers=headers)) == ENVELOPE


def test_read_envelope__header_order_time_and_extensions_do_not_count() -> None:
    more = {"ce_time": b"yesterday", "ce_subject": b"x", "ce_ext": b"\xff", "other": None}
    received = binary(headers=more | dict(reversed(BINARY.items())))
    assert read_envelope(received) == ENVELOPE


def test_read_envelope__other_headers_may_repeat() -> None:
    received = binary()
    received = received._replace(headers=(*received.headers, ("x", b"1"), ("x", None)))
    assert read_envelope(received) == ENVELOPE


TRACE = {"traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


@pytest.mark.parametrize("sent", [binary(), structured()])
def test_read_envelope__trace_headers(sent: SourceRecord) -> None:
    headers = {**dict(sent.headers), **TRACE, "tracestate": b"a=b"}
    envelope = read_envelope(sent._replace(headers=tuple(headers.items())))
    assert envelope.traceparent == TRACE["traceparent"].decode()
    assert envelope.tracestate == "a=b"


@pytest.mark.parametrize("value", [None, b"\xff", b"a\0b"])
def test_read_envelope__unusable_trace_headers_are_dropped(value: bytes | None) -> None:
    sent = binary(headers=BINARY | {"traceparent": value, "tracestate": value})
    assert read_envelope(sent) == ENVELOPE


@pytest.mark.parametrize("data", [None, 1, "x", [], [1], True])
def test_read_envelope__data_of_any_json_type(data: Any) -> None:
    assert read_envelope(binary(data)).data == data
    assert read_envelope(structured(data=data)).data == data


def test_read_envelope__structured_without_data() -> None:
    assert read_envelope(structured(without(EVENT, "data"))).data is None


@pytest.mark.parametrize("character", ["x", "ä", "\U0001f600"])
def test_read_envelope__200_characters_of_id_and_source(character: str) -> None:
    longest = 200 * character
    sent = binary(id=longest.encode(), source=longest.encode())
    assert read_envelope(sent)[:2] == (longest, longest)
    assert read_envelope(structured(id=longest, source=longest))[:2] == (longest, longest)
    assert code(binary(id=longest.encode() + b"x")) == "no_identity"
    assert code(binary(source=longest.encode() + b"x")) == "no_identity"
    assert code(structured(id=longest + "x")) == "no_identity"


# JSON that only a lenient parser reads is still answered: with a result, as invalid.


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "-Infinity",
        "1e400",
        r'"\ud800"',
        r'{"\udfff": 1}',
        "9" * 400,
        "1" + "0" * 5000,
        "-" + "9" * 100_000,
    ],
)
def test_read_envelope__json_beyond_what_can_be_stored(text: str) -> None:
    value = b'{"a": %s}' % text.encode()
    assert "a" in read_envelope(binary(value)).data
    assert (
        "a"
        in read_envelope(
            structured(
                b'{"data": %s, ' % value
                + json.dumps(EVENT).encode()[1:-1].replace(b'"data"', b'"ext"')
                + b"}"
            )
        ).data
    )


@pytest.mark.parametrize("levels", [100, 300, 1000])
def test_read_envelope__deep_data(levels: int) -> None:
    data = read_envelope(binary(b"[" * levels + b"]" * levels)).data
    for _ in range(levels - 1):
        [data] = data
    assert data == []


# Dead letters.


@pytest.mark.parametrize("value", [None, b""])
def test_read_envelope__empty(value: bytes | None) -> None:
    assert code(binary()._replace(value=value)) == "empty"
    assert code(structured()._replace(value=value)) == "empty"
    assert code(record(value, ())) == "empty"


@pytest.mark.parametrize(
    "value",
    [
        b"junk",
        b"{",
        b'{"a": 1} x',
        b'"\xff"',
        b'{"a": "\xc3\x28"}',
        b'"tab\there"',
        b"\xef\xbb\xbf{}",
        b"{}".decode().encode("utf-16"),
        b"nan",
        b"'a'",
        b"[1,]",
        b" ",
        b"\0",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_read_envelope__not_json(value: bytes) -> None:
    assert code(binary(value)) == "not_json"
    assert code(structured(value)) == "not_json"


@pytest.mark.parametrize(
    "sent",
    [
        record(b"{}", ()),
        binary(specversion=None),
        binary(specversion=b"0.3"),
        binary(specversion=b"1.1"),
        binary(headers=without(BINARY, "ce_specversion")),
        binary(headers=without(BINARY, "ce_type")),
        binary(type=None),
        binary(type=b""),
        binary(type=b"\xff"),
        binary(type=b"a\0b"),
        binary(headers=BINARY | {"content-type": b"text/plain"}),
        binary(headers=BINARY | {"content-type": b"application/cloudevents+avro"}),
        binary(headers=BINARY | {"content-type": b"application/cloudevents-batch+json"}),
        structured(b"[]"),
        structured(b"null"),
        structured(b'"x"'),
        structured(b"{}"),
        structured(specversion=1.0),
        structured(specversion="0.3"),
        structured(without(EVENT, "type")),
        structured(type=""),
        structured(type=7),
        structured(type="a\0b"),
        structured(type="\ud800"),
        structured(data_base64="e30="),
    ],
)
def test_read_envelope__not_cloudevents(sent: SourceRecord) -> None:
    assert code(sent) == "not_cloudevents"


@pytest.mark.parametrize("repeated", ["ce_id", "ce_source", "ce_type", "content-type", "ce_x"])
@pytest.mark.parametrize("again", [b"other", None, b""])
def test_read_envelope__repeated_attributes(repeated: str, again: bytes | None) -> None:
    sent = binary(headers=BINARY | {"ce_x": b"1"})
    assert code(sent._replace(headers=(*sent.headers, (repeated, again)))) == "not_cloudevents"


@pytest.mark.parametrize(
    "sent",
    [
        binary(id=None),
        binary(id=b""),
        binary(id=b"\xff\xfe"),
        binary(id=b"a\0b"),
        binary(source=None),
        binary(source=b""),
        binary(source=b"\xff"),
        binary(headers=without(BINARY, "ce_id")),
        binary(headers=without(BINARY, "ce_source")),
        structured(without(EVENT, "id")),
        structured(without(EVENT, "source")),
        structured(id=None),
        structured(id=7),
        structured(id=""),
        structured(id="\ud800"),
        structured(source=["/ats"]),
        structured(source="a\0b"),
    ],
)
def test_read_envelope__no_identity(sent: SourceRecord) -> None:
    assert code(sent) == "no_identity"


@pytest.mark.parametrize(
    "text",
    [None, 7, ["e30="], "é", "e30", "e30=\n", "!!!!", base64.b64encode(b"junk").decode(), ""],
)
def test_read_envelope__bad_base64(text: Any) -> None:
    event = without(EVENT, "data") | {"data_base64": text}
    assert code(structured(event)) == "not_json"


MIB = 1024 * 1024


def test_read_envelope__too_large() -> None:
    """As large as the topic takes is read; more can only have come compressed."""
    assert read_envelope(binary({"a": "x" * (4 * MIB - 2000)})).command_id == "id-1"
    assert code(binary({"a": "x" * 4 * MIB})) == "too_large"
    assert code(binary(headers=BINARY | {"h": b"x" * 4 * MIB})) == "too_large"
    assert code(binary()._replace(key=b"x" * 4 * MIB)) == "too_large"


def test_read_envelope__too_large_by_the_framing_of_its_headers() -> None:
    sent = binary()
    assert code(sent._replace(headers=(*sent.headers, *[("h", None)] * 1_400_000))) == "too_large"


@pytest.mark.parametrize("character", [b"x", b"\x01"])
def test_read_envelope__a_type_longer_than_any(character: bytes) -> None:
    """Escaped in a notice it would outgrow what the topic takes."""
    assert code(binary(type=character * MIB)) == "unknown_type"
    assert code(structured(type=character.decode() * 201)) == "unknown_type"


# Total: an envelope that can be stored, or a dead letter whose detail repeats nothing.

_NAMES = st.sampled_from([*BINARY, "traceparent", "tracestate", "ce_x", "x"]) | st.text()
_VALUES = (
    st.none() | st.binary(max_size=40) | st.sampled_from([*BINARY.values(), *STRUCTURED.values()])
)
_EVENTS = st.dictionaries(st.sampled_from([*EVENT, "data_base64", "traceparent", "x"]), JSON)


@given(
    st.none()
    | st.binary()
    | JSON.map(json.dumps).map(str.encode)
    | _EVENTS.map(lambda event: json.dumps(EVENT | event).encode()),
    st.lists(st.tuples(_NAMES, _VALUES), max_size=9),
    st.booleans(),
)
@example(b"{}", [("ce_specversion", b"1.0")], True)
def test_read_envelope__is_total(
    value: bytes | None, headers: list[tuple[str, bytes | None]], usual: bool
) -> None:
    drawn = dict.fromkeys(name for name, _ in headers)
    base = [item for item in BINARY.items() if item[0] not in drawn] if usual else []
    try:
        envelope = read_envelope(record(value, (*base, *headers)))
    except Undecodable:
        return
    for text in envelope[:3]:
        assert 0 < len(text) <= 200
    for text in (*envelope[:3], envelope.traceparent or "", envelope.tracestate or ""):
        assert "\0" not in text
        text.encode()


def test_read_envelope__a_hundred_thousand_headers_are_refused_at_once() -> None:
    """Quadratic work would run into the time limit of every test."""
    names = [f"ce_{number}" for number in range(100_000)]
    headers = tuple((name, b"") for name in [*names, names[0]])
    with pytest.raises(Undecodable) as refused:
        read_envelope(SourceRecord(None, b"{}", headers, 0))
    assert refused.value.code == "not_cloudevents"
