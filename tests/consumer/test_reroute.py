"""Any producer, any partitioner: a command on another lane's partition finds its home."""

import asyncio
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contract.topics import COMMAND_MESSAGE_BYTES_MAX
from tests.consumer.conftest import (
    PARTITIONS,
    WITHIN_SECONDS,
    Bed,
    Command,
    Event,
    create,
    new_key,
    update,
)


def elsewhere(command: Command) -> int:
    return (command.lane + 1) % PARTITIONS


async def on_commands(bed: Bed, lane: int, value: bytes) -> list[ConsumerRecord]:
    """All records of a partition of commands up to the first with this value."""
    found: list[ConsumerRecord] = []
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        AIOKafkaConsumer(
            **bed.kafka, isolation_level="read_committed", auto_offset_reset="earliest"
        ) as consumer,
    ):
        consumer.assign([TopicPartition(bed.topics.commands, lane)])
        while not (found and found[-1].value == value):
            found.append(await consumer.getone())
    return found


async def rerouted(bed: Bed, command: Command, offset: int) -> Event:
    """The notice about it, as it must be."""
    notice = await bed.notice(elsewhere(command), offset)
    assert notice.type == "candidate.command.rerouted.v1"
    assert notice.partition == elsewhere(command)
    assert notice.key == command.data["organization_id"]
    assert notice.data["from_partition"] == elsewhere(command)
    assert notice.data["to_partition"] == command.lane
    assert notice.data["command_id"] == command.id
    return notice


@pytest.mark.parametrize("key", ["organization", "candidate", "null", "empty", "junk"])
async def test_reroute__whatever_the_key(bed: Bed, key: str) -> None:
    command = create(new_key())
    of_record = {
        "organization": command.data["organization_id"].encode(),
        "candidate": command.data["candidate_id"].encode(),
        "null": None,
        "empty": b"",
        "junk": b"\xff\x00",
    }[key]
    value = orjson.dumps(command.data, option=orjson.OPT_INDENT_2) + b"\n "
    headers: list[tuple[str, bytes | None]] = [
        ("x", None), *command.headers.items(), ("x", b"\xff"), ("x", b""), ("traceparent", b"t-1"),
    ]  # fmt: skip
    offset = await bed.send_raw(elsewhere(command), value, headers, key=of_record)
    notice = await rerouted(bed, command, offset)
    assert notice.headers["traceparent"] == b"t-1"
    result = await bed.result(command)
    assert (result.partition, result.data["outcome"]) == (command.lane, "applied")
    assert result.headers["traceparent"] == b"t-1"
    await bed.until(lambda: bool(bed.changes_of(_key(command))))
    assert bed.changes_of(_key(command))[0].partition == command.lane
    sent = (await on_commands(bed, elsewhere(command), value))[-1]
    copy = (await on_commands(bed, command.lane, value))[-1]
    assert (copy.key, copy.value, list(copy.headers)) == (of_record, value, headers)
    assert copy.timestamp == sent.timestamp


def _key(command: Command) -> tuple[str, str]:
    return command.data["organization_id"], command.data["candidate_id"]


async def test_reroute__structured_mode(bed: Bed) -> None:
    command = create(new_key())
    event = {"specversion": "1.0", "id": command.id, "source": command.source}
    value = orjson.dumps(event | {"type": command.type, "data": command.data})
    headers = {"content-type": b"application/cloudevents+json"}
    offset = await bed.send_raw(elsewhere(command), value, headers)
    await rerouted(bed, command, offset)
    assert (await bed.result(command)).data["outcome"] == "applied"


async def test_reroute__counted(bed: Bed) -> None:
    command = create(new_key())
    labels = {"lane": str(elsewhere(command))}
    before = bed.registry.get_sample_value("funnel_reroutes_total", labels) or 0
    await bed.settle(command, lane=elsewhere(command))
    assert bed.registry.get_sample_value("funnel_reroutes_total", labels) == before + 1


async def test_reroute__keeps_order_and_settles_once(bed: Bed) -> None:
    """A copy sent home and one sent elsewhere are one command; a reroute settles nothing."""
    key = new_key()
    commands = [create(key), *(update(key, {"rating": n}, expected_version=n) for n in (1, 2, 3))]
    results = await bed.settle(*commands, lane=elsewhere(commands[0]))
    assert [result["outcome"] for result in results] == ["applied"] * 4
    again = await bed.settle(*commands)
    assert [result["outcome"] for result in again] == ["duplicate"] * 4
    assert await bed.settle(*commands, lane=elsewhere(commands[0])) != []
    assert len(bed.changes_of(key)) == 4


async def test_reroute__an_invalid_command_is_answered_at_home(bed: Bed) -> None:
    command = update(new_key(), {"rating": 77})
    [offset] = await bed.send(command, lane=elsewhere(command))
    await rerouted(bed, command, offset)
    result = await bed.result(command)
    assert (result.partition, result.data["reason"]) == (command.lane, "invalid")


async def test_reroute__all_partitions_for_one_organization(bed: Bed) -> None:
    """As a round-robin producer sends: everything ends on one lane."""
    key = new_key()
    await bed.settle(create(key))
    commands = [update(key, {"source": str(n)}) for n in range(4 * PARTITIONS)]
    for number, command in enumerate(commands):
        await bed.send(command, lane=number % PARTITIONS)
    results = [await bed.result(command) for command in commands]
    assert {result.partition for result in results} == {commands[0].lane}
    assert sorted(result.data["version"] for result in results) == list(range(2, 18))


async def test_reroute__finished_by_the_next_consumer(own_bed: Bed) -> None:
    """The home lane has no owner until later."""
    command = create(new_key())
    async with own_bed.consuming():
        [offset] = await own_bed.send(command, lane=elsewhere(command))
        await rerouted(own_bed, command, offset)
    async with own_bed.consuming():
        assert (await own_bed.result(command)).data["outcome"] == "applied"
    assert len(own_bed.results) == 2


@pytest.mark.parametrize("room", [200, 0, -20, -60])
async def test_reroute__as_large_as_the_topic_takes(bed: Bed, room: int) -> None:
    """Compressed it came; what does not fit uncompressed is set aside, and the lane goes on."""
    command = create(new_key())
    value = orjson.dumps(command.data)
    headers: list[tuple[str, Any]] = list(command.headers.items())
    framing = 61 + 20 + sum(len(name) + len(v) + 2 for name, v in headers)
    value += b" " * (COMMAND_MESSAGE_BYTES_MAX - len(value) - framing - room)
    async with AIOKafkaProducer(
        **bed.kafka, compression_type="gzip", max_request_size=2 * COMMAND_MESSAGE_BYTES_MAX
    ) as producer:
        sent = await producer.send_and_wait(
            bed.topics.commands, value, partition=elsewhere(command), headers=headers
        )
    after = create(new_key(elsewhere(command)))
    assert (await bed.settle(after))[0]["outcome"] == "applied"
    notice = await bed.notice(elsewhere(command), sent.offset)
    if notice.type == "candidate.command.rerouted.v1":
        assert room > 0
        assert (await bed.result(command)).data["outcome"] == "applied"
    else:
        assert room < 200
        assert notice.data["error_code"] == "too_large"
        letter = await bed.dead_letter(elsewhere(command), sent.offset)
        assert letter.value == value
