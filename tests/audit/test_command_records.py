"""Commands read again by offset: what is asked for, wherever it stands, and few fetches for it."""

from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from audit.command_records import RECORDS_AT_ONCE, CommandRecords, command_records
from contract.journal import JournalRow
from contract.record import unpack
from contract.topics import Topics

TOTAL = 3 * RECORDS_AT_ONCE


def rows(*offsets: int, lane: int = 0) -> list[JournalRow]:
    nothing = JournalRow._make([None] * len(JournalRow._fields))
    return [nothing._replace(lane=lane, kind="command", source_offset=each) for each in offsets]


@pytest.fixture
async def values(kafka_options: dict[str, Any], topics: Topics) -> list[list[bytes]]:
    """By lane, of the records from offset 0 on."""
    sent = [[f"{lane}/{n}/{uuid4()}".encode() for n in range(TOTAL)] for lane in range(2)]
    async with AIOKafkaProducer(**kafka_options) as producer:
        for lane, own in enumerate(sent):
            for value in own:
                await producer.send(topics.commands, value, partition=lane)
    return sent


async def test_of__finds_what_is_asked_in_any_order(
    kafka_options: dict[str, Any], topics: Topics, values: list[list[bytes]]
) -> None:
    asked = [
        (0, (0,)), (0, (1, 2)), (0, (2,)), (0, range(3, 900)), (0, (5,)), (1, (5, 7)),
        (0, (5,)), (0, (TOTAL - 1,)), (1, (TOTAL - 1, TOTAL + 5)), (1, (TOTAL + 9,)), (1, (6,)),
        (1, range(TOTAL)), (0, (0, TOTAL - 1)),
    ]  # fmt: skip
    async with command_records(kafka_options, topics.commands) as records:
        assert await records.of([]) == {}
        for lane, offsets in asked:
            found = await records.of(rows(*offsets, lane=lane))
            wanted = {each: values[lane][each] for each in offsets if each < TOTAL}
            assert {offset: unpack(packed).value for offset, packed in found.items()} == wanted
            assert len(records._kept) <= RECORDS_AT_ONCE, "however much lies between them"


async def test_of__goes_on_where_it_was_for_offsets_that_rise(
    kafka_options: dict[str, Any],
    topics: Topics,
    values: list[list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    went: list[int] = []
    seek = AIOKafkaConsumer.seek

    def counted(self: AIOKafkaConsumer, partition: Any, offset: int) -> None:
        went.append(offset)
        seek(self, partition, offset)

    monkeypatch.setattr(AIOKafkaConsumer, "seek", counted)
    async with command_records(kafka_options, topics.commands) as records:
        for offset in range(0, TOTAL, 3):
            assert await one(records, offset) == values[0][offset]
    assert went == [0]


async def one(records: CommandRecords, offset: int) -> bytes | None:
    found = await records.of(rows(offset))
    return unpack(found[offset]).value
