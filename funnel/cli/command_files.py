"""Files of commands, read line by line: JSON Lines for any command, CSV for new candidates.

A file is read twice, once to check every line and once to send, so that nothing of a file with a
bad line is sent, whatever its size; memory holds one line at a time.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast
from uuid import UUID, uuid5

import orjson

from domain.commands import CommandParser
from domain.field_errors import FieldError, InvalidCommand
from domain.limits import COMMAND_RECORD_BYTES_MAX
from funnel.cli.field_text import BadField, is_field, set_field
from producer.client import CommandTooLarge, OutgoingCommand
from producer.outgoing import command_record

_SPOOL_BYTES_MAX = 16 * 1024 * 1024
"""What is kept of a pipe in memory before it goes to a temporary file."""
_LINE_BYTES_MAX = 2 * COMMAND_RECORD_BYTES_MAX
"""A command with room for escapes and spacing: beyond it a line is not even parsed."""
_MEMBERS = frozenset({"type", "data", "id", "source", "traceparent", "tracestate"})
EXTERNAL_ID = "external_id"


class BadFile(Exception):
    """The file as a whole cannot be used."""


@dataclass(frozen=True, slots=True)
class FileLine:
    """One line: its command, or why it has none."""

    number: int
    command: OutgoingCommand | None
    problem: str = ""


@contextmanager
def open_twice(path: Path) -> Iterator[BinaryIO]:
    """The file, open to be read more than once; `-` is standard input, pipes are spooled.

    Raises:
        BadFile: it cannot be opened.
    """
    try:
        source = sys.stdin.buffer if str(path) == "-" else path.open("rb")
    except OSError as error:
        raise BadFile(f"{path}: {error.strerror}") from error
    with source:
        if source.seekable():
            yield source
            return
        with SpooledTemporaryFile(max_size=_SPOOL_BYTES_MAX) as spooled:
            copyfileobj(source, spooled)
            yield cast("BinaryIO", spooled)


def json_lines(file: BinaryIO) -> Iterator[FileLine]:
    """Commands, one JSON object a line; empty lines are skipped.

    `{"type": …, "data": {…}}`, and if wanted `id`, `source`, `traceparent`, `tracestate`. A line
    without `id` gets a new one each time the file is read.
    """
    file.seek(0)
    number = 0
    while line := file.readline(_LINE_BYTES_MAX):
        number += 1
        if len(line) == _LINE_BYTES_MAX:
            yield FileLine(number, None, "the line is too long; what follows was not read")
            return
        if line.strip():
            yield _json_line(number, line)


def _json_line(number: int, line: bytes) -> FileLine:
    try:
        members = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return FileLine(number, None, f"not JSON: {error.msg} at column {error.colno}")
    if not isinstance(members, dict):
        return FileLine(number, None, "not a JSON object")
    if unknown := sorted(members.keys() - _MEMBERS):
        return FileLine(number, None, f"unknown member {unknown[0]!r}")
    data = members.pop("data", None)
    if not isinstance(data, dict):
        return FileLine(number, None, "data: an object is needed")
    for name, value in members.items():
        if not isinstance(value, str):
            return FileLine(number, None, f"{name}: a string is needed")
    if "type" not in members:
        return FileLine(number, None, "type: is missing")
    return FileLine(number, OutgoingCommand(data=data, **members))


def csv_rows(file: BinaryIO, *, organization_id: UUID, actor: str) -> Iterator[FileLine]:
    """A create command for each row of a CSV file in UTF-8 with a header.

    Columns are writable fields, `attribute.<name>`, and `external_id`, from which, or else from
    the e-mail, the candidate's id is derived; an empty cell says nothing. The command's id is
    derived from the row, so importing a row again is the same command again.

    Raises:
        BadFile: no header, a column that means nothing, or none to tell candidates apart.
    """
    file.seek(0)
    # Bytes that are not UTF-8 come through as surrogates, to be refused in their row.
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        reader = csv.reader(text, strict=True)
        header = next(reader, None)
        if header is None:
            raise BadFile("the file is empty")
        columns = [name.strip() for name in header]
        _check_columns(columns)
        number = reader.line_num + 1
        for cells in reader:
            if cells:
                yield _csv_row(number, columns, cells, organization_id, actor)
            number = reader.line_num + 1
    except csv.Error as error:
        yield FileLine(reader.line_num, None, f"not CSV: {error}")
    finally:
        text.detach()


def _check_columns(columns: Sequence[str]) -> None:
    for name in columns:
        if name != EXTERNAL_ID and not is_field(name):
            raise BadFile(f"column {name!r}: there is no such field")
        if columns.count(name) > 1:
            raise BadFile(f"column {name!r} is there more than once")
    if EXTERNAL_ID not in columns and "email" not in columns:
        raise BadFile(f"a column email or {EXTERNAL_ID} is needed to tell candidates apart")


def _csv_row(
    number: int, columns: Sequence[str], cells: Sequence[str], organization_id: UUID, actor: str
) -> FileLine:
    if len(cells) != len(columns):
        return FileLine(number, None, f"{len(cells)} cells, the header has {len(columns)}")
    row = {name: text for name, cell in zip(columns, cells, strict=True) if (text := cell.strip())}
    external_id = row.pop(EXTERNAL_ID, "")
    candidate: dict[str, Any] = {}
    try:
        for name, text in row.items():
            text.encode()
            set_field(candidate, name, text)
        key = f"external/{external_id}" if external_id else f"email/{row['email'].lower()}"
        return FileLine(number, _create(organization_id, key, candidate, actor))
    except KeyError:
        return FileLine(number, None, "neither email nor external_id")
    except UnicodeEncodeError:
        return FileLine(number, None, "not UTF-8")
    except BadField as error:
        return FileLine(number, None, str(error))


def _create(
    organization_id: UUID, key: str, candidate: Mapping[str, Any], actor: str
) -> OutgoingCommand:
    candidate_id = uuid5(organization_id, key)
    content = orjson.dumps([actor, candidate], option=orjson.OPT_SORT_KEYS).decode()
    return OutgoingCommand(
        type="candidate.create.v1",
        data={
            "organization_id": str(organization_id),
            "candidate_id": str(candidate_id),
            "actor": actor,
            "candidate": candidate,
        },
        id=str(uuid5(candidate_id, content)),
    )


def checked(lines: Iterator[FileLine], parser: CommandParser | None) -> Iterator[FileLine]:
    """The same lines, each with a command that may be sent, or with its problem."""
    for line in lines:
        problem = line.command and problem_of(line.command, parser)
        yield FileLine(line.number, None, problem) if problem else line


def problem_of(command: OutgoingCommand, parser: CommandParser | None) -> str | None:
    """Why the command cannot be sent, in words; None if it can."""
    try:
        command_record(command, source="-", partitions_total=1, parser=parser)
    except InvalidCommand as error:
        return "; ".join(_in_words(each) for each in error.errors)
    except (CommandTooLarge, TypeError, ValueError) as error:
        return str(error)
    return None


def _in_words(error: FieldError) -> str:
    return f"{error.pointer.removeprefix('/')}: {error.detail}"
