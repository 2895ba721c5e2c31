"""Malformed records: each answered as CONTRACT.md says, and the good command behind it applied.

`SECRET` stands for what a sender would not want to meet again: no answer repeats it.
"""

import json
import struct
from typing import Any, NamedTuple
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from tests.consumer.conftest import Bed, Command, Headers, Json, Key, create, new_key, update

SECRET = "5ecr3t"
LANE = 2
MIB = 1024 * 1024
KEY = new_key(LANE)
IDS: Json = {"organization_id": KEY[0], "candidate_id": KEY[1], "actor": SECRET}
GOOD: dict[str, bytes | None] = update(KEY, {}, id="corpus").headers
STRUCTURED: dict[str, bytes | None] = {"content-type": b"application/cloudevents+json"}
EVENT: Json = {"specversion": "1.0", "source": "/tests", "type": "candidate.update.v1"}


class Record(NamedTuple):
    """What is sent, and the code of its dead letter or the pointers of its result's errors."""

    name: str
    value: bytes | None
    headers: Headers
    answer: str | set[str]
    key: bytes | None = None


def data(**fields: Any) -> bytes:
    """An update, with members of `data` replaced; None leaves one out."""
    members = {**IDS, "changes": {"source": SECRET}, **fields}
    return json.dumps({k: v for k, v in members.items() if v is not None}).encode()


def patch(text: str) -> bytes:
    """An update whose `changes` are this text."""
    return orjson.dumps(IDS)[:-1] + f',"changes":{text}}}'.encode()


def attributes(text: str) -> bytes:
    return patch(f'{{"attributes":{{"a":{text}}}}}')


def event(**members: Any) -> bytes:
    return json.dumps({**EVENT, "id": str(uuid4()), "data": json.loads(data()), **members}).encode()


def deep(levels: int) -> str:
    return "[" * levels + f'"{SECRET}"' + "]" * levels


def without(*names: str) -> dict[str, bytes | None]:
    return {name: value for name, value in GOOD.items() if name not in names}


def dead(code: str, *records: tuple[str, bytes | None, Headers]) -> list[Record]:
    return [Record(*record, code) for record in records]


def invalid(*records: tuple[str, bytes, set[str]]) -> list[Record]:
    return [Record(name, value, GOOD, pointers) for name, value, pointers in records]


CORPUS = [
    *dead(
        "empty",
        ("empty", b"", GOOD),
        ("tombstone", None, GOOD),
        ("tombstone-bare", None, ()),
        ("empty-structured", b"", STRUCTURED),
    ),
    Record("tombstone-key", None, (), "empty", b"key"),
    *dead(
        "not_json",
        ("bad-utf8", b'{"a":"' + SECRET.encode() + b'\xff"}', GOOD),
        ("overlong-utf8", data().replace(SECRET.encode(), b"\xc0\xaf"), GOOD),
        ("utf8-surrogate", data().replace(SECRET.encode(), b"\xed\xa0\x80"), GOOD),
        ("bad-json", b'{"organization_id": "' + SECRET.encode(), GOOD),
        ("xml", f"<a>{SECRET}</a>".encode(), GOOD),
        ("utf16", data().decode().encode("utf-16"), GOOD),
        ("bom", b"\xef\xbb\xbf" + data(), GOOD),
        ("trailing", data() + SECRET.encode(), GOOD),
        ("raw-nul", data().replace(SECRET.encode(), b"\0"), GOOD),
        ("raw-control", data().replace(SECRET.encode(), b"\n"), GOOD),
        ("deep-2000", attributes(deep(2000)), GOOD),
        ("deep-100000", attributes(deep(100_000)), GOOD),
        ("deep-objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, GOOD),
        ("noise-1mb", bytes(range(256)) * 4096, GOOD),
        ("noise-3.9mb", bytes(range(256)) * 15_900, GOOD),
        ("structured-junk", SECRET.encode(), STRUCTURED),
        (
            "base64-alphabet",
            event(data=None).replace(b'"data": null', b'"data_base64": "%%"'),
            STRUCTURED,
        ),
        (
            "base64-type",
            event(data=None).replace(b'"data": null', b'"data_base64": {}'),
            STRUCTURED,
        ),
        (
            "base64-of-junk",
            event(data=None).replace(b'"data": null', b'"data_base64": "AAAA"'),
            STRUCTURED,
        ),
    ),
    *dead(
        "not_cloudevents",
        ("no-headers", data(), ()),
        ("no-specversion", data(), without("ce_specversion")),
        ("null-specversion", data(), GOOD | {"ce_specversion": None}),
        ("specversion-0.3", data(), GOOD | {"ce_specversion": b"0.3"}),
        ("no-type", data(), without("ce_type")),
        ("null-type", data(), GOOD | {"ce_type": None}),
        ("bad-utf8-type", data(), GOOD | {"ce_type": SECRET.encode() + b"\xff"}),
        ("nul-type", data(), GOOD | {"ce_type": b"\0"}),
        ("repeated-id", data(), [*GOOD.items(), ("ce_id", SECRET.encode())]),
        ("repeated-same-id", data(), [*GOOD.items(), ("ce_id", GOOD["ce_id"])]),
        ("repeated-null-type", data(), [*GOOD.items(), ("ce_type", None)]),
        ("content-type-xml", data(), GOOD | {"content-type": b"application/xml"}),
        ("content-type-batch", data(), {"content-type": b"application/cloudevents-batch+json"}),
        ("content-type-avro", data(), {"content-type": b"application/cloudevents+avro"}),
        ("structured-array", b"[%s]" % event(), STRUCTURED),
        ("structured-string", f'"{SECRET}"'.encode(), STRUCTURED),
        ("structured-null", b"null", STRUCTURED),
        ("structured-number-specversion", event(specversion=1.0), STRUCTURED),
        ("structured-type-of-type", event(type=[SECRET]), STRUCTURED),
        ("structured-surrogate-type", event(type="\ud800"), STRUCTURED),
        ("both-datas", event(data_base64="e30="), STRUCTURED),
    ),
    *dead(
        "no_identity",
        ("no-id", data(), without("ce_id")),
        ("empty-id", data(), GOOD | {"ce_id": b""}),
        ("null-id", data(), GOOD | {"ce_id": None}),
        ("bad-utf8-id", data(), GOOD | {"ce_id": b"\xff"}),
        ("nul-id", data(), GOOD | {"ce_id": b"a\0b"}),
        ("long-id", data(), GOOD | {"ce_id": SECRET.encode() * 40}),
        ("no-source", data(), without("ce_source")),
        ("long-source", data(), GOOD | {"ce_source": b"/" * 201}),
        ("structured-id-number", event(id=5), STRUCTURED),
        ("structured-surrogate-source", event(source="\udfff"), STRUCTURED),
        ("structured-no-data", event(data=None), STRUCTURED),
        ("data-array", b"[%s]" % data(), GOOD),
        ("data-string", f'"{SECRET}"'.encode(), GOOD),
        ("data-null", b"null", GOOD),
        ("data-number", b"1e400", GOOD),
        ("no-organization", data(organization_id=None), GOOD),
        ("organization-number", data(organization_id=7), GOOD),
        ("organization-array", data(organization_id=[KEY[0]]), GOOD),
        ("organization-object", data(organization_id={SECRET: 1}), GOOD),
        ("organization-text", data(organization_id=SECRET), GOOD),
        ("organization-braces", data(organization_id=f"{{{KEY[0]}}}"), GOOD),
        ("organization-newline", data(organization_id=KEY[0] + "\n"), GOOD),
        ("organization-nul", data(organization_id=KEY[0] + "\0"), GOOD),
        ("organization-digits", data(organization_id="\u0661" + KEY[0][1:]), GOOD),
    ),
    *dead(
        "unknown_type",
        ("unknown-type", data(), GOOD | {"ce_type": b"candidate.praise.v1"}),
        ("unknown-version", data(), GOOD | {"ce_type": b"candidate.update.v2"}),
        ("capital-type", data(), GOOD | {"ce_type": b"Candidate.Update.v1"}),
        ("spaced-type", data(), GOOD | {"ce_type": b"candidate.update.v1 "}),
        ("control-type-900k", data(), GOOD | {"ce_type": b"\x01" * 900_000}),
        ("long-type-3mb", data(), GOOD | {"ce_type": SECRET.encode() * (MIB // 2)}),
    ),
    *invalid(
        ("nan", attributes("NaN"), {"/changes/attributes/a"}),
        ("infinity", attributes("-Infinity"), {"/changes/attributes/a"}),
        ("beyond-double", attributes("1e400"), {"/changes/attributes/a"}),
        ("int-64-bits", attributes(str(2**63)), {"/changes/attributes/a"}),
        ("int-below-64-bits", attributes(str(-(2**63) - 1)), {"/changes/attributes/a"}),
        ("int-65-bits", attributes(str(2**65)), {"/changes/attributes/a"}),
        ("int-400-digits", attributes("9" * 400), {"/changes/attributes/a"}),
        ("int-5000-digits", attributes("9" * 5000), {"/changes/attributes/a"}),
        ("int-1mb", attributes("-" + "9" * MIB), {"/changes/attributes/a"}),
        ("nan-rating", patch('{"rating":NaN}'), {"/changes/rating"}),
        ("huge-version", data(expected_version=2**70), {"/expected_version"}),
        ("nul", attributes(r'"\u0000"'), {"/changes/attributes/a"}),
        ("nul-name", patch(r'{"first_name":"a\u0000b"}'), {"/changes/first_name"}),
        ("nul-key", patch(r'{"attributes":{"a\u0000":1}}'), {"/changes/attributes/a\ufffd"}),
        ("surrogate", attributes(r'"\ud800"'), {"/changes/attributes/a"}),
        ("surrogate-half-pair", attributes(r'"\udc00\ud800"'), {"/changes/attributes/a"}),
        ("surrogate-actor", data(actor="\ud800"), {"/actor"}),
        ("surrogate-tag", patch(r'{"tags":["\udfff"]}'), {"/changes/tags/0"}),
        ("deep-6", attributes(deep(5)), {"/changes/attributes"}),
        ("deep-100", attributes(deep(100)), {"/changes/attributes"}),
        ("deep-300", attributes(deep(300)), {"/changes/attributes"}),
        ("deep-rating", patch(f'{{"rating":{deep(300)}}}'), {"/changes/rating"}),
        ("attributes-1mb", attributes(f'"{SECRET * 170_000}"'), {"/changes/attributes"}),
        ("attributes-3.9mb", attributes(f'"{SECRET * 680_000}"'), {"/changes/attributes"}),
        ("name-1mb", patch(json.dumps({"first_name": SECRET * 170_000})), {"/changes/first_name"}),
        ("email-1mb", patch(json.dumps({"email": "a." * MIB + "@a.b"})), {"/changes/email"}),
        ("numbers-for-tags", patch('{"tags":[' + "1," * MIB + "1]}"), {"/changes/tags/0"}),
        (
            "many-tags",
            patch(json.dumps({"tags": [f"t{n}" for n in range(100_000)]})),
            {"/changes/tags"},
        ),
        ("no-changes", data(changes=None), {"/changes"}),
        ("changes-array", data(changes=[SECRET]), {"/changes"}),
        ("changes-empty", data(changes={}), {"/changes"}),
        ("candidate-id", data(candidate_id=SECRET), {"/candidate_id"}),
        ("candidate-array", data(candidate_id=[SECRET]), {"/candidate_id"}),
        ("actor-long", data(actor=SECRET * 40), {"/actor"}),
        ("actor-missing", data(actor=None), {"/actor"}),
        ("on-conflict", data(on_conflict=SECRET), {"/on_conflict"}),
        ("version-text", data(expected_version="1"), {"/expected_version"}),
        ("version-true", data(expected_version=True), {"/expected_version"}),
        ("version-float", data(expected_version=1.5), {"/expected_version"}),
        ("unknown-field", data(x=SECRET), {"/x"}),
        ("read-only", data(changes={"version": 7, "created_at": SECRET}), set()),
        (
            "constructor",
            data(changes={"__proto__": SECRET, "": 1}),
            {"/changes/__proto__", "/changes/"},
        ),
        ("email", data(changes={"email": SECRET}), {"/changes/email"}),
        ("phone", data(changes={"phone": SECRET}), {"/changes/phone"}),
        ("stage", data(changes={"pipeline_stage": SECRET + "\n"}), {"/changes/pipeline_stage"}),
        ("tags-text", data(changes={"tags": SECRET}), {"/changes/tags"}),
        ("tag-edit", data(changes={"tags": {"drop": [SECRET]}}), {"/changes/tags/drop"}),
        ("fields-100000", patch(json.dumps({f"f{n}": SECRET for n in range(100_000)})), set()),
    ),
]


def readable(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def strip_pointers(told: Json) -> str:
    """All of a result but the pointers, which name fields as they were sent."""
    errors = [
        {k: v for k, v in error.items() if k != "pointer"} for error in told.get("errors", [])
    ]
    return json.dumps({**told, "errors": errors})


async def answered(bed: Bed, sent: Record, lane: int, offset: int, command_id: str) -> None:
    if isinstance(sent.answer, str):
        notice = await bed.notice(lane, offset)
        assert notice.type == "candidate.command.dead-lettered.v1"
        assert notice.data["error_code"] == sent.answer
        assert notice.partition == lane
        assert notice.key == notice.data.get("organization_id")
        assert SECRET not in json.dumps(notice.data)
        letter = await bed.dead_letter(lane, offset)
        assert (letter.key, letter.value, letter.partition) == (sent.key, sent.value, lane)
        pairs = list(sent.headers.items() if isinstance(sent.headers, dict) else sent.headers)
        assert list(letter.headers[: len(pairs)]) == pairs
        ours = dict(letter.headers[len(pairs) :])
        assert ours.keys() == {
            *(f"x-original-{name}" for name in ("topic", "partition", "offset", "timestamp")),
            *("x-error-code", "x-error-detail"),
        }
        assert ours["x-error-code"] == sent.answer.encode()
        assert ours["x-original-topic"] == bed.topics.commands.encode()
        assert SECRET not in readable(ours["x-error-detail"])
        return
    command = Command(command_id, "candidate.update.v1", IDS)
    told = (await bed.result(command)).data
    assert (told["outcome"], told["reason"]) == ("rejected", "invalid")
    assert 1 <= len(told["errors"]) <= 50
    if sent.answer:
        assert {error["pointer"] for error in told["errors"]} == sent.answer
    assert SECRET not in strip_pointers(told)


@pytest.mark.parametrize("malformed", CORPUS, ids=lambda record: record.name)
async def test_corpus__answered_and_the_next_command_applied(
    bed: Bed, malformed: Record, alive: Key
) -> None:
    command_id = str(uuid4())
    headers = malformed.headers
    if not isinstance(malformed.answer, str):
        headers = GOOD | {"ce_id": command_id.encode()}
    offset = await bed.send_raw(LANE, malformed.value, headers, key=malformed.key)
    [result] = await bed.settle(update(alive, {"source": command_id}))
    assert result["outcome"] == "applied"
    await answered(bed, malformed, LANE, offset, command_id)


@pytest.fixture(scope="session")
async def alive(shared_bed: Bed) -> Key:
    """A candidate that the good commands change."""
    key = new_key(LANE)
    await shared_bed.settle(create(key))
    return key


@pytest.mark.parametrize("name", [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80"])
@pytest.mark.parametrize("good", [True, False])
async def test_corpus__header_names_that_are_no_utf8(
    bed: Bed, alive: Key, name: bytes, good: bool
) -> None:
    """Clients of other languages write header names as bytes."""
    command = update(alive, {"source": str(uuid4())})
    value = orjson.dumps(command.data) if good else b"junk"
    offset = await _send_with_header_name(bed, name, value, command)
    [after] = await bed.settle(update(alive, {"source": str(uuid4())}))
    assert after["outcome"] == "applied"
    if good:
        assert (await bed.result(command)).data["outcome"] == "applied"
    else:
        assert (await bed.notice(LANE, offset)).data["error_code"] == "not_json"


async def _send_with_header_name(bed: Bed, name: bytes, value: bytes, command: Command) -> int:
    """aiokafka writes only text: patch the name into the bytes of a batch, and its checksum."""
    placeholder = "~" * len(name)
    batch = bed.producer.create_batch()
    headers = [*command.headers.items(), (placeholder, b"x")]
    batch.append(timestamp=None, key=None, value=value, headers=headers)
    raw = bytearray(bytes(batch._build()).replace(placeholder.encode(), name))
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    batch._buffer = raw
    sent = await bed.producer.send_batch(batch, bed.topics.commands, partition=LANE)
    return int((await sent).offset)


async def test_corpus__headers_that_outgrow_every_topic(bed: Bed, alive: Key) -> None:
    """Compressed they are small, but not when they are written again."""
    headers = [*GOOD.items(), *[("\U0001f600" * 1000, None)] * 1400]
    async with AIOKafkaProducer(
        **bed.kafka, compression_type="gzip", max_request_size=16 * MIB
    ) as producer:
        sent = await producer.send_and_wait(
            bed.topics.commands, data(), partition=LANE, headers=headers
        )
    [result] = await bed.settle(update(alive, {"source": str(uuid4())}))
    assert result["outcome"] == "applied"
    assert (await bed.notice(LANE, sent.offset)).data["error_code"] == "too_large"
    letter = await bed.dead_letter(LANE, sent.offset)
    assert letter.value is None
    kept = await bed.database.fetchval(
        "SELECT length(record) FROM dead_letters WHERE lane = $1 AND source_offset = $2",
        LANE, sent.offset,
    )  # fmt: skip
    assert kept > 1400 * 4000


async def test_corpus__all_of_it_in_one_batch(own_bed: Bed) -> None:
    """Nothing of a neighbour rubs off: the same answers when one transaction holds them all."""
    small = [record for record in CORPUS if len(record.value or b"") < 10_000]
    key = new_key(LANE)
    offsets = []
    await own_bed.send(create(key))
    for number, malformed in enumerate(small):
        headers = malformed.headers
        if not isinstance(malformed.answer, str):
            headers = GOOD | {"ce_id": f"id-{number}".encode()}
        offsets.append(await own_bed.send_raw(LANE, malformed.value, headers, key=malformed.key))
        await own_bed.send(update(key, {"source": str(number)}))
    async with own_bed.consuming():
        await own_bed.until(lambda: len(own_bed.results) == 1 + 2 * len(small))
        for number, (malformed, offset) in enumerate(zip(small, offsets, strict=True)):
            await answered(own_bed, malformed, LANE, offset, f"id-{number}")
    assert len(own_bed.changes) == 1 + len(small)
    state = await own_bed.state(key)
    assert state is not None
    assert state["version"] == 1 + len(small)
