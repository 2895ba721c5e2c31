"""Decompresses a record batch, but never to more than a bound.

A few kilobytes may unpack to gigabytes, and aiokafka unpacks whatever comes. Here the buffer is
bounded before anything is written to it, so the worst batch costs its lane, not the process.
"""

import struct
import zlib
from typing import Any

import cramjam

from domain.limits import BATCH_UNPACKED_BYTES_MAX

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
_GZIP_WINDOW = 31
"""zlib's word for: gzip, with its header."""
_XERIAL_HEADER = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
_BLOCK_LENGTH = struct.Struct(">i")
_FIRST_BUFFER_BYTES = 64 * 1024
_GUESSED_RATIO = 8
_NO_ROOM = "failed to write whole buffer"


class BatchTooLarge(ValueError):
    """A record batch unpacks to more than the bound."""

    def __init__(self) -> None:
        super().__init__(f"a record batch of more than {BATCH_UNPACKED_BYTES_MAX} bytes, unpacked")


def unpacked(codec: int, data: bytes, bytes_max: int = BATCH_UNPACKED_BYTES_MAX) -> bytes:
    """The records of a batch.

    Args:
        codec: as in the attributes of the batch; another number is returned as it is, so that
            the reader refuses it.

    Raises:
        BatchTooLarge: more than `bytes_max`.
        cramjam.DecompressionError, zlib.error, struct.error, EOFError: the data is broken.
    """
    if codec == GZIP:
        return _gzip(data, bytes_max)
    if codec == SNAPPY:
        return _snappy(data, bytes_max)
    if codec in (LZ4, ZSTD):
        return _grown(cramjam.lz4 if codec == LZ4 else cramjam.zstd, data, bytes_max)
    return data


def _gzip(data: bytes, bytes_max: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    while data:
        member = zlib.decompressobj(_GZIP_WINDOW)
        part = member.decompress(data, bytes_max - total + 1)
        total += len(part)
        if total > bytes_max:
            raise BatchTooLarge
        if not member.eof:
            raise EOFError
        parts.append(part)
        data = member.unused_data
    return b"".join(parts)


def _snappy(data: bytes, bytes_max: int) -> bytes:
    blocks = [data] if not data.startswith(_XERIAL_HEADER) else _xerial_blocks(data)
    total = 0
    for block in blocks:
        total += cramjam.snappy.decompress_raw_len(block)
        if total > bytes_max:
            raise BatchTooLarge
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _xerial_blocks(data: bytes) -> list[bytes]:
    """The framing that Java's snappy writes: blocks, each behind its length."""
    blocks: list[bytes] = []
    at = len(_XERIAL_HEADER)
    while at < len(data):
        (length,) = _BLOCK_LENGTH.unpack_from(data, at)
        if length <= 0:
            raise EOFError
        at += _BLOCK_LENGTH.size
        blocks.append(data[at : at + length])
        at += length
    return blocks


def _grown(codec: Any, data: bytes, bytes_max: int) -> bytes:
    """Frames need not tell their length: into a buffer, and a larger one if it was too small."""
    size = min(bytes_max, max(_FIRST_BUFFER_BYTES, _GUESSED_RATIO * len(data)))
    while True:
        buffer = bytearray(size)
        try:
            length = int(codec.decompress_into(data, buffer))
        except cramjam.DecompressionError as error:
            if str(error) != _NO_ROOM:
                raise
            if size == bytes_max:
                raise BatchTooLarge from error
            size = min(bytes_max, _GUESSED_RATIO * size)
        else:
            return bytes(memoryview(buffer)[:length])
