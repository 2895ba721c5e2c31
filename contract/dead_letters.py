"""The public id of a dead letter, and the header that links a redriven record to its first death.

The header is the only thing that a redrive adds; identity and digest of a command ignore it.
"""

import re
from typing import Any, NamedTuple, Self

import orjson

from contract.journal import JournalRow
from contract.record import RawRecord

REDRIVE_OF = "x-redrive-of"
ERASED_HEADER = "x-erased"
"""The only header of what an erasure leaves of a record; `blank_letters` in SQL writes it."""
_ID = re.compile(r"(0|[1-9][0-9]{0,4})-([1-9][0-9]{0,17})", re.ASCII)


class DeadLetterId(NamedTuple):
    """`<lane>-<result_sequence>`: the place of its notice on results."""

    lane: int
    result_sequence: int

    def __str__(self) -> str:
        return f"{self.lane}-{self.result_sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError: no such id can be."""
        found = _ID.fullmatch(text)
        if found is None:
            raise ValueError("A dead letter's id is <lane>-<sequence>.")
        return cls(int(found[1]), int(found[2]))


def was_erased(record: RawRecord) -> bool:
    """Is nothing left of the record, as it named a candidate who was erased?"""
    return record.value is None and (ERASED_HEADER, b"true") in record.headers


def redrive_of(record: RawRecord) -> str | None:
    """The id of the first death, as the record claims; anybody may write such a header."""
    for name, value in record.headers:
        if name == REDRIVE_OF and value is not None and _ID.fullmatch(text := _ascii(value)):
            return text
    return None


def _ascii(value: bytes) -> str:
    return value.decode("ascii", "replace")


DEAD_LETTER_COLUMNS = (
    "lane", "result_sequence", "recorded_at", "source_offset", "error_code", "error_detail",
    "organization_id", "record", "redrive_of",
)  # fmt: skip


def dead_letter_values(row: JournalRow) -> tuple[Any, ...]:
    """What the table `dead_letters` holds of a journal row, in the order of its columns."""
    details = orjson.loads(row.details or b"{}")
    return (
        row.lane, row.result_sequence, row.recorded_at, row.source_offset,
        details["error_code"], details["error_detail"], row.organization_id, row.forward,
        details.get("redrive_of"),
    )  # fmt: skip
