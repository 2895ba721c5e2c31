"""`pack` and `unpack`: what a dead letter keeps and a reroute republishes is what was sent."""

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import example, given
from hypothesis import strategies as st

from contract.record import SourceRecord, pack, record_bytes, unpack

BYTES = st.none() | st.binary(max_size=300)
# A name that is no UTF-8 comes as surrogates that stand for its bytes.
NAMES = st.text(max_size=80) | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))
RECORDS = st.builds(
    SourceRecord,
    BYTES,
    BYTES,
    st.lists(st.tuples(NAMES, BYTES), max_size=6).map(tuple),
    st.integers(-1, 2**63 - 1),
)


@given(RECORDS)
@example(SourceRecord(None, None, (), -1))
@example(SourceRecord(b"", b"", (("", None), ("", b""), ("", None)), 0))
def test_unpack__gives_back_what_was_packed(record: SourceRecord) -> None:
    assert unpack(pack(record)) == record


@given(RECORDS, RECORDS)
def test_pack__two_records_never_look_alike(one: SourceRecord, other: SourceRecord) -> None:
    assert (pack(one) == pack(other)) == (one == other)


@given(RECORDS.filter(lambda record: all(_encodes(name) for name, _ in record.headers)))
def test_record_bytes__covers_what_a_batch_of_one_takes(record: SourceRecord) -> None:
    assert 0 <= record_bytes(record) - _on_the_wire(record) <= 36 + 8 * len(record.headers)


@pytest.mark.parametrize("headers", [[("h", None)] * 10_000, [("\U0001f600" * 1000, b"x" * 9)]])
def test_record_bytes__of_very_many_or_long_headers(headers: Any) -> None:
    record = SourceRecord(b"k" * 200_000, None, tuple(headers), 0)
    assert record_bytes(record) >= _on_the_wire(record)


def _on_the_wire(record: SourceRecord) -> int:
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=1, producer_id=1, producer_epoch=1,
        base_sequence=1, batch_size=10_000_000,
    )  # fmt: skip
    builder.append(0, timestamp=1, key=record.key, value=record.value, headers=list(record.headers))
    return len(builder.build())


def _encodes(name: str) -> bool:
    return name.encode("utf-8", "replace") == name.encode("utf-8", "surrogatepass")
