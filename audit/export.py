"""`funnel export`: a range of the journal as JSON Lines, and a manifest that proves it whole.

The file is a row of zstd frames, one for each page of rows; the manifest beside it tells of each
where it lies, what it holds and its hash. A frame is written before the manifest tells of it, so an
export that was cut short goes on behind the last frame that the manifest knows.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import asyncpg
import cramjam
import orjson

from audit.database import open_audit
from audit.ranges import Range, Span, pages, spans_of
from contract.journal import JournalRow, timestamp_text

FORMAT = 1
_HASH_PREFIX = "sha256:"

Report = Callable[[int, int], None]
"""Called with how many results are done, and of how many."""
Commands = Callable[[list[JournalRow]], Awaitable[dict[int, bytes]]]
"""Asked for the packed records that rows come from, by offset: see `audit.command_records`."""


class ExportRefused(Exception):
    """There is an export already, or what there is belongs to another range."""


@dataclass(slots=True)
class Manifest:
    """What an export holds.

    Attributes:
        chunks: of each frame `lane`, `first` and `last` (journal sequences), `rows`, `start` and
            `bytes` (where it lies in the file), `sha256` of its lines.
        counts: rows by kind.
    """

    asked: dict[str, Any]
    spans: list[Span]
    whole: bool = False
    chunks: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Bytes of the file."""
        return self.chunks[-1]["start"] + self.chunks[-1]["bytes"] if self.chunks else 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(self.counts.values())

    def digest(self) -> str:
        """One hash over all lines: over the hashes of the chunks, in their order."""
        hashed = sha256()
        for chunk in self.chunks:
            hashed.update(bytes.fromhex(chunk["sha256"]))
        return _HASH_PREFIX + hashed.hexdigest()

    def write(self, path: Path) -> None:
        """Replace the manifest as a whole, so that there is always a readable one."""
        told = {
            "format": FORMAT,
            "range": self.asked,
            "whole": self.whole,
            "lanes": [
                {"lane": span.lane, "first_result": span.first, "last_result": span.last}
                for span in self.spans
            ],
            "rows": self.rows,
            "counts": self.counts,
            "digest": self.digest(),
            "chunks": self.chunks,
        }
        unfinished = path.with_name(path.name + ".new")
        unfinished.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
        unfinished.replace(path)


def manifest_path(path: Path) -> Path:
    """The manifest of the export in `path`."""
    return path.with_name(path.name + ".manifest.json")


async def export(
    database_url: str,
    asked: Range,
    path: Path,
    *,
    report: Report,
    resume: bool = False,
    commands: Commands | None = None,
) -> Manifest:
    """Write a range of the journal to `path`, its manifest beside it.

    Args:
        resume: go on with an export of the same range that was cut short.
        commands: adds to each row the command's record as it was received.

    Raises:
        ExportRefused: the file is there and `resume` is not asked for, or is of another range.
        AuditRefused, RangeRefused, OSError: see `audit.database`, `audit.ranges`.
    """
    beside = manifest_path(path)
    async with open_audit(database_url, name="funnel export", walking=True) as connection:
        manifest = _begun(path, asked, resume=resume)
        if manifest is None:
            manifest = Manifest(asked.told(), await spans_of(connection, asked))
        with path.open("ab") as file:
            file.truncate(manifest.end)  # a frame that the manifest does not know
            await _write(connection, asked, manifest, file, beside, report, commands)
    manifest.whole = True
    manifest.write(beside)
    return manifest


async def _write(
    connection: asyncpg.Connection,
    asked: Range,
    manifest: Manifest,
    file: BinaryIO,
    beside: Path,
    report: Report,
    commands: Commands | None,
) -> None:
    ends = {chunk["lane"]: tuple(chunk["end"]) for chunk in manifest.chunks}
    total = sum(max(0, span.last - span.first + 1) for span in manifest.spans)
    before = 0
    for span in manifest.spans:
        async for rows in pages(connection, asked, span, after=ends.get(span.lane)):
            records = {} if commands is None else await commands(rows)
            lines, frame = await asyncio.to_thread(_frame, rows, records)
            start = manifest.end
            await asyncio.to_thread(_append, file, frame)
            manifest.chunks.append(
                {
                    "lane": span.lane,
                    "rows": len(rows),
                    "first": rows[0].journal_sequence,
                    "last": rows[-1].journal_sequence,
                    "end": [rows[-1].result_sequence, rows[-1].journal_sequence],
                    "start": start,
                    "bytes": len(frame),
                    "sha256": sha256(lines).hexdigest(),
                }
            )
            for row in rows:
                manifest.counts[row.kind] = manifest.counts.get(row.kind, 0) + 1
            manifest.write(beside)
            report(before + rows[-1].result_sequence - span.first + 1, total)
        before += max(0, span.last - span.first + 1)
    report(total, total)


def _append(file: BinaryIO, frame: bytes) -> None:
    file.write(frame)
    file.flush()


def _frame(rows: list[JournalRow], records: Mapping[int, bytes]) -> tuple[bytes, bytes]:
    lines = b"".join(line(row, records.get(row.source_offset)) for row in rows)
    return lines, bytes(cramjam.zstd.compress(lines))


def line(row: JournalRow, record: bytes | None = None) -> bytes:
    """A row as one line: columns by name, JSON as JSON, bytes in hexadecimal or base64."""
    told = row._asdict()
    told["recorded_at"] = timestamp_text(row.recorded_at)
    for name in ("details", "change"):
        if told[name] is not None:
            told[name] = orjson.Fragment(told[name])
    if row.digest is not None:
        told["digest"] = row.digest.hex()
    if row.forward is not None:
        told["forward"] = b64encode(row.forward).decode()
    told = {name: value if value is None or isinstance(value, (int, str, orjson.Fragment))
            else str(value) for name, value in told.items()}  # fmt: skip
    if record is not None:
        told["command"] = b64encode(record).decode()
    return orjson.dumps(told) + b"\n"


def _begun(path: Path, asked: Range, *, resume: bool) -> Manifest | None:
    """What an earlier run has written, None if there was none."""
    beside = manifest_path(path)
    if not resume and (path.exists() or beside.exists()):
        raise ExportRefused(f"{path} is there already: --resume goes on with it.")
    if not beside.exists():
        return None
    told = orjson.loads(beside.read_bytes())
    if told["range"] != asked.told():
        raise ExportRefused(f"{beside} is of another range.")
    spans = [
        Span(each["lane"], each["first_result"], each["last_result"]) for each in told["lanes"]
    ]
    return Manifest(told["range"], spans, False, told["chunks"], told["counts"])
