"""Both CloudEvents modes through the whole path, as the SDK writes them."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent

from tests.consumer.conftest import Bed, Command, create, new_key, update

TRACE = {
    "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": b"vendor=a,other=b",
}
MODES = {"binary": kafka.to_binary_event, "structured": kafka.to_structured_event}


def event(command: Command, **attributes: Any) -> CloudEvent:
    own = {"id": command.id, "source": command.source, "type": command.type, "specversion": "1.0"}
    return CloudEvent({"datacontenttype": "application/json", **own, **attributes}, command.data)


async def send(bed: Bed, command: Command, message: kafka.KafkaMessage, **more: bytes) -> None:
    key = command.data["organization_id"].encode()
    await bed.send_raw(command.lane, message.value, message.headers | more, key=key)


@pytest.mark.parametrize("mode", MODES)
async def test_envelopes__of_the_sdk(bed: Bed, mode: str) -> None:
    key = new_key()
    command = create(key)
    await send(bed, command, MODES[mode](event(command)), **TRACE)
    result = await bed.result(command)
    assert result.data["outcome"] == "applied"
    await bed.until(lambda: bool(bed.changes_of(key)))
    for output in (result, bed.changes_of(key)[0]):
        assert output.headers.items() >= TRACE.items()
        plain = kafka.KafkaMessage(output.headers, None, orjson.dumps(output.data))
        parsed = kafka.from_kafka_event(plain)
        assert parsed.get_type() == output.type
        assert parsed.get_source() == "/tests/candidates"


async def test_envelopes__a_trace_context_inside_the_event(bed: Bed) -> None:
    command = create(new_key())
    inside = {name: value.decode() for name, value in TRACE.items()}
    await send(bed, command, kafka.to_structured_event(event(command, **inside)))
    assert (await bed.result(command)).headers.items() >= TRACE.items()


async def test_envelopes__base64(bed: Bed) -> None:
    command = create(new_key())
    raw = event(command)
    attributes = raw.get_attributes() | {"datacontenttype": "application/octet-stream"}
    message = kafka.to_structured_event(CloudEvent(attributes, orjson.dumps(command.data)))
    assert b"data_base64" in message.value
    await send(bed, command, message)
    assert (await bed.result(command)).data["outcome"] == "applied"


async def test_envelopes__mode_order_time_and_trace_are_not_content(bed: Bed) -> None:
    """The same command however it is wrapped: settled once."""
    command = create(new_key(), attributes={"b": 1, "a": {"d": 0.5, "c": []}})
    turned = command._replace(data=dict(reversed(command.data.items())))
    spaced = orjson.dumps(turned.data, option=orjson.OPT_INDENT_2)
    shuffled = dict(reversed(command.headers.items())) | {"ce_time": b"2020-01-01T00:00:00Z"}
    await bed.send(command)
    await send(bed, command, kafka.to_binary_event(event(command)), **TRACE)
    await send(bed, command, kafka.to_structured_event(event(turned, subject="x")))
    await bed.send_raw(command.lane, spaced, shuffled)
    results = [await bed.result(command, after=n) for n in range(4)]
    outcomes = [result.data["outcome"] for result in results]
    assert outcomes == ["applied", "duplicate", "duplicate", "duplicate"]
    assert len({result.data["original"]["id"] for result in results[1:]}) == 1


@pytest.mark.parametrize("value", [r"NaN", r'"\ud800"', "1e999", "9" * 30, "9" * 5000])
async def test_envelopes__mode_is_not_content_even_of_what_is_invalid(bed: Bed, value: str) -> None:
    command = update(new_key(), {}, id=str(uuid4()))
    data = orjson.dumps(command.data).replace(b"{}", b'{"attributes":{"a":%s}}' % value.encode())
    attributes = event(command).get_attributes() | {"time": None}
    whole = orjson.dumps(attributes)[:-1] + b',"data":' + data + b"}"
    await bed.send_raw(command.lane, data, command.headers)
    structured = {"content-type": b"application/cloudevents+json"}
    await bed.send_raw(command.lane, whole, structured)
    first, second = [await bed.result(command, after=n) for n in range(2)]
    assert (first.data["reason"], second.data["outcome"]) == ("invalid", "duplicate")
    [error] = first.data["errors"]
    assert error["pointer"] == "/changes/attributes/a"


async def test_envelopes__source_is_part_of_the_identity(bed: Bed) -> None:
    key = new_key()
    one = create(key)
    results = await bed.settle(one, one._replace(source="/other"))
    assert [result.get("reason") for result in results] == [None, "already_exists"]


async def test_envelopes__longest_id_and_source(bed: Bed) -> None:
    command = create(new_key())._replace(id="\U0001f600" * 200, source="/" + "ä" * 199)
    [result] = await bed.settle(command)
    assert (result["command_id"], result["command_source"]) == (command.id, command.source)
