"""An export read back, frame by frame, and checked against its manifest with no server at hand.

Memory holds one frame. Whatever is wrong is a difference, never an exception: the file may have
been cut, changed or put together by anybody.
"""

from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import cramjam
import orjson

from audit.export import FORMAT, Manifest, manifest_path
from audit.findings import Findings, Meter, Report
from contract.journal import JournalRow

_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


ExportedPage = tuple[list[JournalRow], dict[int, bytes]]
"""Rows of one lane, and the packed commands behind them by offset."""


class ExportUnreadable(Exception):
    """There is no export, or no manifest beside it."""


def verify_export(path: Path, *, report: Report) -> Findings:
    """Compare every frame with the manifest, and the rows with one another.

    Raises:
        ExportUnreadable: the file, or its manifest, is not there or no manifest.
    """
    findings = Findings()
    told = _manifest(path)
    if not told["whole"]:
        findings.add(
            "export", "manifest", expected="a whole export", found="one that was cut short"
        )
    meter = Meter(told["rows"], report)
    counts: Counter[str] = Counter()
    places: dict[int, tuple[int, int, int]] = {}
    end = 0
    with path.open("rb") as file:
        for number, chunk in enumerate(told["chunks"]):
            where = f"chunk {number}"
            if chunk["start"] != end:
                findings.add("export", where, expected=f"offset {end}", found=chunk["start"])
            end = chunk["start"] + chunk["bytes"]
            file.seek(chunk["start"])
            rows = _rows(file.read(chunk["bytes"]), chunk, where, findings)
            _follow(rows, where, places, findings, whole_lanes=_unfiltered(told["range"]))
            counts.update(str(row.get("kind")) for row in rows)
            findings.rows["exported rows"] += len(rows)
            meter.advance(len(rows))
        file.seek(0, 2)
        if file.tell() != end:
            findings.add("export", "file", expected=f"{end} bytes", found=f"{file.tell()} bytes")
    _compare(told, counts, findings)
    return findings


def exported_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of an export, one frame at a time, unchecked.

    Raises:
        ExportUnreadable: see `verify_export`.
    """
    chunks = _manifest(path)["chunks"]
    with path.open("rb") as file:
        for chunk in chunks:
            file.seek(chunk["start"])
            lines = bytes(cramjam.zstd.decompress(file.read(chunk["bytes"])))
            yield [orjson.loads(each) for each in lines.splitlines()]


def exported_pages(path: Path) -> Iterator[ExportedPage]:
    """The rows of an export as the journal had them, with the commands behind them, by offset.

    Raises:
        ExportUnreadable: see `verify_export`.
    """
    for lines in exported_rows(path):
        commands = {
            line["source_offset"]: b64decode(line["command"]) for line in lines if "command" in line
        }
        yield [_row(line) for line in lines], commands


def exported_total(path: Path) -> int:
    """How many rows an export has. Raises ExportUnreadable."""
    total: int = _manifest(path)["rows"]
    return total


def _row(line: dict[str, Any]) -> JournalRow:
    values: dict[str, Any] = {name: line.get(name) for name in JournalRow._fields}
    values["recorded_at"] = datetime.fromisoformat(line["recorded_at"])
    for name in ("details", "change"):
        if values[name] is not None:
            values[name] = orjson.dumps(values[name])
    if values["digest"] is not None:
        values["digest"] = bytes.fromhex(values["digest"])
    if values["forward"] is not None:
        values["forward"] = b64decode(values["forward"])
    return JournalRow(**values)


def _manifest(path: Path) -> dict[str, Any]:
    beside = manifest_path(path)
    try:
        told: dict[str, Any] = orjson.loads(beside.read_bytes())
        if not path.exists():
            raise ExportUnreadable(f"{path} is not there.")
        if told["format"] != FORMAT:
            raise ExportUnreadable(f"{beside} has format {told['format']}, known is {FORMAT}.")
    except FileNotFoundError as error:
        raise ExportUnreadable(f"{beside} is not there.") from error
    except _UNREADABLE as error:
        raise ExportUnreadable(f"{beside} is no manifest.") from error
    return told


def _rows(
    frame: bytes, chunk: dict[str, Any], where: str, findings: Findings
) -> list[dict[str, Any]]:
    try:
        lines = bytes(cramjam.zstd.decompress(frame))
        rows = [orjson.loads(each) for each in lines.splitlines()]
    except (cramjam.DecompressionError, ValueError):
        findings.add("export", where, expected="a frame of JSON Lines", found="another thing")
        return []
    if sha256(lines).hexdigest() != chunk["sha256"]:
        findings.add("export", where, expected="the manifest's hash", found="another")
    if len(rows) != chunk["rows"]:
        findings.add("export", where, expected=f"{chunk['rows']} rows", found=len(rows))
    return rows


def _follow(
    rows: list[dict[str, Any]],
    where: str,
    places: dict[int, tuple[int, int, int]],
    findings: Findings,
    *,
    whole_lanes: bool,
) -> None:
    """Numbers rise within a lane; where nothing was left out, by one."""
    for row in rows:
        try:
            lane, journal = row["lane"], row["journal_sequence"]
            result, change = row["result_sequence"], row["change_sequence"]
            before = places.get(lane)
            places[lane] = (journal, result, change or (before[2] if before else 0))
            if before is None:
                continue
            right = journal > before[0] and result >= before[1]
            if whole_lanes:
                right = right and journal == before[0] + 1 and result <= before[1] + 1
                right = right and (change is None or before[2] in (0, change - 1))
        except _UNREADABLE:
            findings.add("export", where, expected="rows of the journal", found="another thing")
            return
        if not right:
            findings.add(
                "export", f"{where}, lane {lane}, journal row {journal}",
                expected=f"a row that follows {before[0]}", found="another",
            )  # fmt: skip


def _compare(told: dict[str, Any], counts: Counter[str], findings: Findings) -> None:
    if dict(counts) != told["counts"]:
        findings.add("export", "manifest", expected=told["counts"], found=dict(counts))
    digest = Manifest({}, [], True, told["chunks"]).digest()
    if digest != told["digest"]:
        findings.add("export", "manifest", expected=told["digest"], found=digest)


def _unfiltered(asked: dict[str, Any]) -> bool:
    return not asked.keys() & {"organization_id", "candidate_id", "operation_id"}
