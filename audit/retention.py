"""Retention: the journal's oldest month as a whole, or nothing.

A month may go once deduplication no longer reaches it, all of it is published and sealed, and, if
archives are kept, exported; before it goes, a checkpoint of the state at its end is written. What
may go is judged in the database, by the function that alone may drop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from audit.checkpoint import write_checkpoint
from audit.database import open_audit
from audit.export import export
from audit.ranges import Range
from audit.sequences import read_lanes
from audit.sqlfiles import statement
from contract.lanes import Hook
from domain.limits import RETENTION_TRIES_MAX

ROLE = "funnel_retention"
TRANSACTION_SECONDS_MAX = 1800
"""A lane's checkpoint of many million candidates; erasures are put off for so long: a guess."""
_DROP = "SELECT drop_journal_partition($1, $2, $3)"
_LOCK_TIMEOUT = "SET lock_timeout = '500ms'"
"""Lanes queue behind a drop that waits: not for longer than a hiccup."""
_TRY_AGAIN_SECONDS = 1.0
_NOTE_ARCHIVE = statement("note_archive")
_PARTITIONS = statement("partitions")

_REMEDIES = {
    "not_oldest": "it is not the oldest; months go in their order",
    "too_young": "deduplication may still reach it",
    "unpublished": "not all of it is published",
    "unsealed": "not all of it is sealed: run `funnel journal seal`",
    "not_archived": "it is not exported: run `funnel journal archive`",
    "no_checkpoint": "it has no checkpoint",
}

Report = Callable[[int, int], None]


class RetentionRefused(Exception):
    """The month stays: the message says why."""


class RetentionBusy(Exception):
    """The month may go, but somebody reads the journal for long: try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """One month of the journal. `hindrances`: why it may not be dropped, but for the checkpoint."""

    partition: str
    starts_at: datetime
    ends_at: datetime
    size: int
    empty: bool
    published: bool
    sealed: bool
    archived: bool
    hindrances: tuple[str, ...]


async def partitions(
    database_url: str, *, horizon: timedelta, archive_needed: bool
) -> list[Partition]:
    """The journal's months, oldest first.

    Raises:
        AuditRefused: the role, a grant or a function is missing.
        OSError, asyncpg.PostgresConnectionError: PostgreSQL does not answer.
    """
    async with open_audit(database_url, name="funnel journal", role=ROLE) as connection:
        return await _partitions(connection, horizon, archive_needed)


async def archive(database_url: str, partition: str, folder: Path, *, report: Report) -> Path:
    """Export a month that is over, and note it; goes on where an earlier run was cut short.

    Raises:
        RetentionRefused: there is no such month, or something may still be added to it.
        ExportRefused, OSError: the folder does not take it.
    """
    async with open_audit(database_url, name="funnel journal", role=ROLE) as connection:
        found = _named(await _partitions(connection, timedelta(0), False), partition)
        if found.ends_at > datetime.now(UTC) or not found.sealed:
            raise RetentionRefused(f"{partition} stays: it is not over, or not all of it is sealed")
    path = folder / f"{partition}.jsonl.zst"
    asked = Range(since=found.starts_at, until=found.ends_at)
    manifest = await export(database_url, asked, path, report=report, resume=True)
    async with open_audit(database_url, name="funnel journal", role=ROLE) as connection:
        await connection.execute(
            _NOTE_ARCHIVE, partition, str(path.resolve()), manifest.rows, manifest.digest()
        )
    return path


async def drop(
    database_url: str,
    partition: str,
    *,
    horizon: timedelta,
    archive_needed: bool,
    report: Report,
    hook: Hook = lambda _: None,
) -> None:
    """Write the checkpoint at the end of the oldest month, then drop the month.

    Args:
        horizon: how far deduplication reaches back.

    Raises:
        RetentionRefused: it may not go.
        RetentionBusy: it may, but not now.
    """
    async with open_audit(
        database_url, name="funnel journal", role=ROLE,
        transaction_seconds_max=TRANSACTION_SECONDS_MAX,
    ) as connection:  # fmt: skip
        month = _named(await _partitions(connection, horizon, archive_needed), partition)
        if month.hindrances:
            raise RetentionRefused(f"{partition} stays: {'; '.join(month.hindrances)}")
        lanes = await read_lanes(connection)
        for done, lane in enumerate(lanes):
            report(done, len(lanes))
            await write_checkpoint(
                connection,
                lane.lane,
                partition=partition,
                starts_at=month.starts_at,
                cut_at=month.ends_at,
                hook=hook,
            )
        report(len(lanes), len(lanes))
        await connection.execute(_LOCK_TIMEOUT)
        for _ in range(RETENTION_TRIES_MAX):
            try:
                await connection.execute(_DROP, partition, horizon, archive_needed)
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
            except asyncpg.ObjectNotInPrerequisiteStateError as refused:
                why = _REMEDIES.get(refused.args[0], refused.args[0])
                raise RetentionRefused(f"{partition} stays: {why}") from refused
            else:
                return
    raise RetentionBusy(f"{partition} stays for now: the journal is read by others for long")


async def _partitions(
    connection: asyncpg.Connection, horizon: timedelta, archive_needed: bool
) -> list[Partition]:
    rows = await connection.fetch(_PARTITIONS)
    return [
        Partition(
            partition=row["partition"],
            starts_at=row["starts_at"],
            ends_at=row["ends_at"],
            size=row["bytes"],
            empty=row["empty"],
            published=row["published"],
            sealed=row["sealed"],
            archived=row["archived"],
            hindrances=_hindrances(row, row is rows[0], horizon, archive_needed),
        )
        for row in rows
    ]


def _hindrances(
    row: asyncpg.Record, oldest: bool, horizon: timedelta, archive_needed: bool
) -> tuple[str, ...]:
    found = {
        "not_oldest": not oldest,
        "too_young": row["ends_at"] > row["now"] - max(horizon, timedelta(days=1)),
        "unpublished": not row["published"],
        "unsealed": not row["sealed"],
        "not_archived": archive_needed and not row["archived"] and not row["empty"],
    }
    return tuple(_REMEDIES[name] for name, hinders in found.items() if hinders)


def _named(months: list[Partition], partition: str) -> Partition:
    for month in months:
        if month.partition == partition:
            return month
    raise RetentionRefused(f"The journal has no partition {partition}.")
