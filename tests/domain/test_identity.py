"""Who a command is: identity, digest, age, and the lane that every murmur2 client agrees on."""

import math
import time
from typing import Any
from uuid import UUID

import pytest
import uuid_utils.compat
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from domain.identity import (
    Identity,
    command_digest,
    home_lane,
    identity_range,
    murmur2,
    uuid7_prefix,
    uuid7_time,
)

ORGANIZATION = "0192f0c1-7c1e-7abc-8def-0123456789ab"
OTHER = "0192f0c1-7c1e-7abc-8def-0123456789ac"
UUID7 = "019ABCDE-F012-7abc-8def-0123456789AB"
TIMES = ("0192f0c1-7c1e", "0192F0C1-7C1F")

# org.apache.kafka.common.utils.UtilsTest.testMurmur2, Java's signed integers.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("data", "signed"), JAVA_MURMUR2.items())
def test_murmur2__vectors_of_kafkas_java_client(data: bytes, signed: int) -> None:
    assert murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=64))
def test_murmur2__as_aiokafka(data: bytes) -> None:
    assert murmur2(data) == aiokafka_murmur2(data)


@given(st.uuids(), st.sampled_from([1, 2, 4, 8, 64]))
def test_home_lane__where_aiokafka_sends_the_key(organization: UUID, partitions: int) -> None:
    lanes = list(range(partitions))
    sent_to = DefaultPartitioner()(str(organization).encode(), lanes, lanes)
    assert home_lane(str(organization), partitions) == sent_to


def test_identity__each_part_counts() -> None:
    parts = [ORGANIZATION, "/s", "id"]
    keys = {Identity(*parts).key}
    for place in range(3):
        other = list(parts)
        other[place] += "x"
        keys.add(Identity(*other).key)
    keys |= {Identity(ORGANIZATION, "id", "/s").key, Identity(ORGANIZATION, "/sid", "").key}
    assert len(keys) == 6
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("command_id", ["id", UUID7])
def test_identity__begins_with_what_organization_and_id_tell(command_id: str) -> None:
    lowest, highest = identity_range(ORGANIZATION, command_id)
    assert lowest <= Identity(ORGANIZATION, "/s", command_id).key <= highest
    assert lowest <= Identity(ORGANIZATION, "/t", command_id).key <= highest
    others = Identity(ORGANIZATION, "/s", command_id + "2"), Identity(OTHER, "/s", command_id)
    assert not any(lowest <= other.key <= highest for other in others)


def test_identity__of_a_uuid7_begins_with_its_time() -> None:
    keys = [Identity(ORGANIZATION, "/s", f"{time}-7abc-8def-0123456789AB").key for time in TIMES]
    assert [key[:12] for key in keys] == [time.replace("-", "").lower() for time in TIMES]


def test_identity__is_fixed_for_ever() -> None:
    """The journal holds these: another value would apply old commands twice."""
    assert Identity(ORGANIZATION, "/s", "id").key == "720a29c95c832da83b3080445abde06d"
    assert Identity(ORGANIZATION, "/s", UUID7).key == "019abcdef01234362884539187103617"
    assert (
        command_digest("t", {"b": 1, "a": [None, 0.5, "ä"]}).hex()
        == "e5cdeebd327330fd559790812208f794"
    )


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {}, False),
        ({"a": "x"}, {"a": "x "}, False),
        ({"a": "é"}, {"a": "e\u0301"}, False),
        # What strict JSON cannot carry is told apart, too.
        ({"a": math.nan}, {"a": None}, False),
        ({"a": math.inf}, {"a": -math.inf}, False),
        ({"a": "\ud800"}, {"a": "\ud801"}, False),
        ({"a": 2**70, "b": 1}, {"b": 1, "a": 2**70}, True),
        ({"a": 2**70}, {"a": 2**70 + 1}, False),
        ({"a": 2**70}, {"a": str(2**70)}, False),
        ({"a": [math.nan, []]}, {"a": [[math.nan]]}, False),
        ({"a": {"b": math.nan}, "c": 1}, {"a": {"b": math.nan, "c": 1}}, False),
    ],
)
def test_command_digest__data_as_sent_keys_sorted(one: Any, other: Any, equal: bool) -> None:
    assert (command_digest("t", one) == command_digest("t", other)) is equal


def test_command_digest__of_a_nest_deeper_than_any_stack() -> None:
    one, other = nest(100_000, 1), nest(100_000, 2)
    assert command_digest("t", one) != command_digest("t", other)


def nest(levels: int, innermost: Any) -> Any:
    for _ in range(levels):
        innermost = [innermost]
    return innermost


def test_command_digest__type_counts() -> None:
    assert command_digest("t", {}) != command_digest("u", {})


@given(st.integers(0, 250_000_000_000_000), st.integers(0, 2**62 - 1))
def test_uuid7_time__the_first_48_bits(milliseconds: int, rest: int) -> None:
    text = str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | rest))
    for spelled in (text, text.upper()):
        found = uuid7_time(spelled)
        assert found is not None
        assert found == milliseconds / 1000


@given(st.integers(0, 250_000_000_000_000), st.integers(0, 250_000_000_000_000), st.booleans())
def test_uuid7_prefix__sorts_behind_every_older_id(
    milliseconds: int, oldest_milliseconds: int, in_capitals: bool
) -> None:
    command_id = str(UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62))
    if in_capitals:
        command_id = command_id.upper()
    oldest = oldest_milliseconds / 1000
    if (uuid7_time(command_id) or 0.0) < oldest:
        assert command_id[:13] < uuid7_prefix(oldest)
    else:
        assert (command_id.lower()[:13] >= uuid7_prefix(oldest)) or milliseconds - oldest * 1000 < 1


def test_uuid7_time__of_the_library_that_makes_them() -> None:
    before = time.time() - 0.002
    made_at = uuid7_time(str(uuid_utils.compat.uuid7()))
    assert made_at is not None
    assert before <= made_at <= time.time()


@pytest.mark.parametrize(
    "command_id",
    [
        "",
        "x",
        "0192f0c1-7c1e-4abc-8def-0123456789ab",
        "0192f0c1-7c1e-7abc-cdef-0123456789ab",
        "0192f0c1-7c1e-7abc-8def-0123456789ab ",
        "00000001-0000-7abc-8def-0123456789xy",
        "00000001x0000y7abcz8defw0123456789ab",
        "0_000001-0000-7abc-8def-0123456789ab",
        "-0000001-0000-7abc-8def-0123456789ab",
        " 0000001-0000-7abc-8def-0123456789ab",
        "\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661-0000-7abc-8def-0123456789ab",
        "000000000000007000008000000000000000",
    ],
)
def test_uuid7_time__nothing_else(command_id: str) -> None:
    assert uuid7_time(command_id) is None
