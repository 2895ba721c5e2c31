"""Record batches of every codec are unpacked as aiokafka would, and never beyond the bound."""

import gzip
from collections.abc import Callable

import cramjam
import pytest
from aiokafka.codec import snappy_encode

from consumer.codecs import GZIP, LZ4, SNAPPY, ZSTD, BatchTooLarge, unpacked
from consumer.source import _UNREADABLE

RECORDS = b"".join(b"record %d" % n for n in range(5000))
Encode = Callable[[bytes], bytes]
ENCODERS: dict[str, tuple[int, Encode]] = {
    "gzip": (GZIP, gzip.compress),
    "snappy, Java's framing": (SNAPPY, snappy_encode),
    "snappy, raw": (SNAPPY, lambda data: bytes(cramjam.snappy.compress_raw(data))),
    "lz4": (LZ4, lambda data: bytes(cramjam.lz4.compress(data))),
    "zstd": (ZSTD, lambda data: bytes(cramjam.zstd.compress(data))),
}
codecs = pytest.mark.parametrize(("codec", "encode"), ENCODERS.values(), ids=ENCODERS)


@codecs
def test_unpacked__gives_what_was_packed(codec: int, encode: Encode) -> None:
    for data in (RECORDS, b"x", RECORDS * 20):
        assert unpacked(codec, encode(data)) == data
    if codec in (GZIP, LZ4, ZSTD):  # streams may be written in pieces
        assert unpacked(codec, encode(RECORDS) * 2) == RECORDS * 2


@codecs
def test_unpacked__stops_at_the_bound(codec: int, encode: Encode) -> None:
    packed = encode(bytes(1_000_000))
    assert len(unpacked(codec, packed, bytes_max=1_000_000)) == 1_000_000
    with pytest.raises(BatchTooLarge):
        unpacked(codec, packed, bytes_max=999_999)


@codecs
def test_unpacked__broken_is_an_error_the_source_knows(codec: int, encode: Encode) -> None:
    packed = encode(RECORDS)
    for broken in (packed[: len(packed) // 2], packed[:100], b"\xff" * 30):
        with pytest.raises(_UNREADABLE):
            unpacked(codec, broken)
