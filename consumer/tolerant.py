"""Lets aiokafka read header names that are not UTF-8.

Clients in other languages write names as bytes. aiokafka decodes them strictly and refuses the
whole fetch for one of them, for ever, so anybody could stop a lane. A record batch that it cannot
read is read again by its own Python code, with bytes that are no text kept as surrogates.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


def tolerate_header_names() -> None:
    """From now on, in this process."""
    fetcher.MemoryRecords = _Records


class _Records(_MemoryRecordsPy):  # type: ignore[misc]  # aiokafka ships no types
    def next_batch(self, *_: Any) -> Any:
        raw = self._next_slice
        return _Batch(super().next_batch(), raw)


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
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_TolerantBatch(self._raw))


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
