"""Lets aiokafka read header names that are not UTF-8, and unpack no more than a bound.

Clients in other languages write names as bytes. aiokafka decodes them strictly and refuses the
whole fetch for one of them, for ever, so anybody could stop a lane. A record batch that it cannot
read is read again by its own Python code, with bytes that are no text kept as surrogates.
What is compressed is unpacked here, and aiokafka is given the same batch uncompressed.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from consumer.codecs import unpacked

_MAGIC_MIN = 2
"""Older batches are written by clients older than headers and transactions."""

_CODEC_AT = _DefaultRecordBatchPy.ATTRIBUTES_OFFSET + 1
"""The lower byte of the attributes."""


def tolerate_hostile_batches() -> None:
    """From now on, in this process."""
    fetcher.MemoryRecords = _Records


class _Records(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka ships no types
    def next_batch(self, *_: Any) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return batch if batch is None or batch.magic < _MAGIC_MIN else _Batch(batch, raw)


class _Batch:
    """aiokafka's fast batch, and the bytes to fall back on."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        batch, raw = self._batch, self._raw
        if codec := batch.compression_type:
            raw = memoryview(_uncompressed(raw, codec))
            batch = DefaultRecordBatch(raw)
        try:
            return iter(list(batch))
        except UnicodeDecodeError:
            return iter(_TolerantBatch(raw))


def _uncompressed(raw: memoryview, codec: int) -> bytearray:
    """The batch without compression. Its length and CRC were looked at before and stay."""
    head = _DefaultRecordBatchPy.HEADER_STRUCT.size
    plain = bytearray(raw[:head])
    plain[_CODEC_AT] &= ~_DefaultRecordBatchPy.CODEC_MASK
    plain += unpacked(codec, bytes(raw[head:]))
    return plain


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: _Bytes = _Bytes(self._buffer)


class _Bytes(bytearray):
    """Decodes itself without ever failing; so do its slices."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Bytes(found) if isinstance(at, slice) else found

    def decode(self, *_: str) -> str:
        return super().decode("utf-8", "surrogateescape")
