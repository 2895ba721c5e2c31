"""Dead letters: the record byte for byte, in Kafka and in PostgreSQL, and the lane goes on."""

import re
from hashlib import sha256

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contract.record import SourceRecord, unpack
from contract.topics import COMMAND_MESSAGE_BYTES_MAX, OUTPUT_MESSAGE_BYTES_MAX
from tests.consumer.conftest import PARTITIONS, Bed, create, new_key, update

LANE = 1
VALUE = b"\x00\xff not json \xfe"
HEADERS: list[tuple[str, bytes | None]] = [
    ("ce_specversion", b"1.0"),
    ("ce_type", b"candidate.update.v1"),
    ("ce_id", b"x"),
    ("ce_source", b"/s"),
    ("", b""),
    ("twice", b"\xff"),
    ("twice", None),
    ("x-error-code", b"of another service"),
    ("\U0001f600", b"name"),
]


async def test_dead_letters__record_and_headers(bed: Bed) -> None:
    offset = await bed.send_raw(LANE, VALUE, HEADERS, key=b"\xff the key")
    letter = await bed.dead_letter(LANE, offset)
    assert (letter.partition, letter.key, letter.value) == (LANE, b"\xff the key", VALUE)
    assert list(letter.headers[: len(HEADERS)]) == HEADERS
    ours = dict(letter.headers[len(HEADERS) :])
    assert ours.pop("x-error-detail")
    assert re.fullmatch(rb"\d{13}", ours.pop("x-original-timestamp"))
    assert ours == {
        "x-original-topic": bed.topics.commands.encode(),
        "x-original-partition": b"%d" % LANE,
        "x-original-offset": b"%d" % offset,
        "x-error-code": b"not_json",
    }


async def test_dead_letters__notice_without_organization(bed: Bed) -> None:
    offset = await bed.send_raw(LANE, VALUE, HEADERS, key=b"key")
    notice = await bed.notice(LANE, offset)
    assert (notice.type, notice.key) == ("candidate.command.dead-lettered.v1", None)
    assert notice.data["error_code"] == "not_json"


async def test_dead_letters__notice_with_organization(bed: Bed) -> None:
    """Of an unknown type, but somebody's; it is set aside where it came, its home or not."""
    command = update(new_key(), {})._replace(type="candidate.praise.v1")
    [offset] = await bed.send(command, lane=(command.lane + 1) % PARTITIONS)
    notice = await bed.notice((command.lane + 1) % PARTITIONS, offset)
    assert notice.data["error_code"] == "unknown_type"
    told = {"command_id": command.id, "command_source": command.source}
    assert notice.data.items() >= told.items()
    assert notice.key == command.data["organization_id"]
    assert bed.results_of(command) == []


async def test_dead_letters__kept_in_postgresql(bed: Bed) -> None:
    offset = await bed.send_raw(LANE, VALUE, HEADERS, key=b"key")
    notice = await bed.notice(LANE, offset)
    row = await bed.database.fetchrow(
        "SELECT * FROM dead_letters WHERE lane = $1 AND result_sequence = $2",
        LANE, notice.data["sequence"],
    )  # fmt: skip
    assert row is not None
    assert (row["source_offset"], row["error_code"]) == (offset, "not_json")
    kept = unpack(row["record"])
    assert kept == SourceRecord(b"key", VALUE, tuple(HEADERS), kept.timestamp)


async def test_dead_letters__sent_again_is_one_more(bed: Bed) -> None:
    """A record without identity cannot be a duplicate."""
    offsets = [await bed.send_raw(LANE, VALUE, HEADERS) for _ in range(2)]
    letters = [await bed.dead_letter(LANE, offset) for offset in offsets]
    assert [letter.value for letter in letters] == [VALUE, VALUE]


async def test_dead_letters__an_id_is_not_used_up(bed: Bed) -> None:
    """What was not settled may be sent again, right this time."""
    command = create(new_key())
    offset = await bed.send_raw(command.lane, b"{", command.headers)
    await bed.notice(command.lane, offset)
    [result] = await bed.settle(command)
    assert result["outcome"] == "applied"


async def test_dead_letters__counted_by_code(bed: Bed) -> None:
    labels = {"code": "empty"}
    before = bed.registry.get_sample_value("funnel_dead_letters_total", labels) or 0
    offset = await bed.send_raw(LANE, None, ())
    await bed.notice(LANE, offset)
    assert bed.registry.get_sample_value("funnel_dead_letters_total", labels) == before + 1


@pytest.mark.parametrize("size", [COMMAND_MESSAGE_BYTES_MAX, OUTPUT_MESSAGE_BYTES_MAX])
async def test_dead_letters__too_large(bed: Bed, size: int) -> None:
    """Only compressed could it come: written again as long as it fits, else size and digest."""
    command = update(new_key(LANE), {"attributes": {"a": "x" * size}})
    value = orjson.dumps(command.data)
    async with AIOKafkaProducer(
        **bed.kafka, compression_type="zstd", max_request_size=2 * size
    ) as producer:
        sent = await producer.send_and_wait(
            bed.topics.commands, value, key=b"key", partition=LANE,
            headers=list(command.headers.items()),
        )  # fmt: skip
    assert (await bed.notice(LANE, sent.offset)).data["error_code"] == "too_large"
    letter = await bed.dead_letter(LANE, sent.offset)
    headers = dict(letter.headers)
    assert headers["x-error-code"] == b"too_large"
    assert letter.key == b"key"
    assert headers["ce_id"] == command.id.encode()
    if size == COMMAND_MESSAGE_BYTES_MAX:
        assert letter.value == value
        return
    assert letter.value is None
    assert headers["x-original-size"] == str(len(value)).encode()
    assert headers["x-original-sha256"] == sha256(value).hexdigest().encode()
    record = await bed.database.fetchval(
        "SELECT record FROM dead_letters WHERE lane = $1 AND source_offset = $2", LANE, sent.offset
    )
    assert unpack(record).value == value


async def test_dead_letters__published_by_the_next_consumer(own_bed: Bed) -> None:
    """Journaled, then the process stops: the next one reads them from the journal.

    The publisher of the first is kept from its work by a hook that fails.
    """
    offset = await own_bed.send_raw(LANE, VALUE, HEADERS, key=b"key")
    stopped = RuntimeError("as if the process had died")

    def die(step: str) -> None:
        if step == "before_publish":
            raise stopped

    with pytest.raises(RuntimeError, match="died"):
        async with own_bed.consuming(hook=die) as consumer:
            await consumer
    assert own_bed.results == []
    async with own_bed.consuming():
        letter = await own_bed.dead_letter(LANE, offset)
        await own_bed.notice(LANE, offset)
    assert (letter.key, letter.value) == (b"key", VALUE)
    assert list(letter.headers[: len(HEADERS)]) == HEADERS
