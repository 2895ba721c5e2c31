"""The doctor's look at PostgreSQL: the server, the schema, the journal's partitions, the queues."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg

from audit.database import ROLE
from audit.diagnosis import Line, fail, graded, ok, span, warn
from audit.sqlfiles import statement
from domain.limits import JOURNAL_MARGIN_DAYS

MIGRATE = "funnel migrate up"
VERSION_NUMBER_MIN = 170_000
"""transaction_timeout, which keeps a paused owner from holding a lane's row, came with 17."""

_CLOCK_SECONDS_MAX = 5.0
"""UUIDv7 ids and deduplication compare clocks by the day; more than this is a broken clock."""
_CONNECTIONS_SHARE_WARN, _CONNECTIONS_SHARE_FAIL = 0.8, 0.95
_TRANSACTION_SECONDS_WARN, _TRANSACTION_SECONDS_FAIL = 600.0, 86_400.0
_STUCK_AFTER = timedelta(minutes=5)
_STUCK_SECONDS_FAIL = 3600.0
_PARTITION = re.compile(r"journal_(\d{4})_(\d{2})")

_SERVER = statement("doctor_server")
_PARTITIONS = statement("doctor_partitions")
_LANES = statement("doctor_lanes")
_CONSUMERS = statement("doctor_consumers")
_DEAD_LETTERS = statement("doctor_dead_letters")
_OPERATIONS = statement("doctor_operations")


class LaneStanding(NamedTuple):
    """A lane's row; times are seconds ago, None where there is none."""

    lane: int
    partitions_total: int
    commands_topic: str
    cluster_id: str
    owner: str | None
    owner_lives: bool
    halted: str | None
    held_seconds: float | None
    next_offset: int
    unpublished: int
    unpublished_seconds: float | None
    progress_seconds: float | None


async def read_lanes(connection: asyncpg.Connection) -> list[LaneStanding]:
    """Every lane; none where no consumer has ever run."""
    return [LaneStanding(*row) for row in await connection.fetch(_LANES)]


async def look_at_server(
    connection: asyncpg.Connection, *, schema_versions: tuple[str, ...]
) -> list[Line]:
    """Version, schema, clock, connections, size, old transactions."""
    await connection.execute("SET ROLE NONE")
    row = await connection.fetchrow(_SERVER)
    await connection.execute(f"SET ROLE {ROLE}")
    if row is None:
        raise AssertionError
    return [*_server(row), *_schema(row["schema_versions"], schema_versions)]


async def look_at_data(connection: asyncpg.Connection) -> list[Line]:
    """Partitions ahead, consumers alive, dead letters, bulk operations."""
    names = [row["name"] for row in await connection.fetch(_PARTITIONS)]
    alive = [row[0] for row in await connection.fetch(_CONSUMERS)]
    lines = [_partitions(names, datetime.now(UTC)), _consumers(alive)]
    lines.append(_dead_letters(await connection.fetchrow(_DEAD_LETTERS)))
    if await connection.fetchval("SELECT to_regclass('public.bulk_operations') IS NOT NULL"):
        lines.append(_operations(await connection.fetchrow(_OPERATIONS, _STUCK_AFTER)))
    return lines


def _server(row: Any) -> list[Line]:
    lines: list[Line] = []
    name = f"PostgreSQL {row['version']}"
    if row["version_number"] < VERSION_NUMBER_MIN:
        lines.append(fail("postgresql", name, "17 or newer is needed: upgrade it", "configuration"))
    elif row["read_only"]:
        lines.append(
            fail(
                "postgresql", f"{name} takes no writes",
                "DATABASE_URL must lead to the primary; promote one if it is lost", "away",
            )
        )  # fmt: skip
    elif row["fsync"] != "on":
        lines.append(warn("postgresql", f"{name}, fsync is off", "set fsync = on, except in tests"))
    else:
        lines.append(ok("postgresql", name))
    drift = abs(row["clock"] - time.time())
    lines.append(
        ok("clock", f"{drift:.1f} s from ours")
        if drift <= _CLOCK_SECONDS_MAX
        else warn("clock", f"{drift:.0f} s from ours", "set both machines by NTP")
    )
    share = row["connections"] / row["connections_max"]
    lines.append(
        graded(
            "connections", f"{row['connections']} of {row['connections_max']}",
            "a consumer takes a connection for each lane and 6 more; raise max_connections",
            value=share, warn_at=_CONNECTIONS_SHARE_WARN, fail_at=_CONNECTIONS_SHARE_FAIL,
        )
    )  # fmt: skip
    lines.append(ok("database size", f"{row['database_bytes'] / 2**20:,.0f} MiB"))
    oldest = row["oldest_transaction_seconds"]
    lines.append(
        graded(
            "transactions", f"the oldest that is open began {span(oldest)} ago",
            "it keeps dead rows: find it in pg_stat_activity, pg_terminate_backend(pid)",
            value=oldest, warn_at=_TRANSACTION_SECONDS_WARN, fail_at=_TRANSACTION_SECONDS_FAIL,
        )
    )  # fmt: skip
    return lines


def _schema(found: list[str], needed: tuple[str, ...]) -> list[Line]:
    newest = max(found, default="none")
    if missing := [version for version in needed if version not in found]:
        said = f"{newest}, this code also needs {', '.join(missing)}"
        return [fail("schema", said, MIGRATE, "configuration")]
    newer = " (newer than this code)" if newest > max(needed) else ""
    return [ok("schema", f"{newest}{newer}")]


def _partitions(names: list[str], now: datetime) -> Line:
    """Consumers make them ahead; INSERTs fail when there is none for today."""
    months = [(int(each[1]), int(each[2])) for each in map(_PARTITION.search, names) if each]
    last_year, last_month = max(months, default=(1, 1))
    end = datetime(last_year + last_month // 12, last_month % 12 + 1, 1, tzinfo=UTC)
    ahead = (end - now).total_seconds() / 86_400
    said = f"{len(names)}, made {max(ahead, 0):.0f} days ahead"
    remedy = "start a consumer, it makes them; else SELECT ensure_journal_partitions(...)"
    if ahead <= 1:
        return fail("journal partitions", said, remedy, "service")
    if ahead < JOURNAL_MARGIN_DAYS:
        return warn("journal partitions", said, remedy)
    return ok("journal partitions", said)


def _consumers(alive: list[str]) -> Line:
    if not alive:
        return fail("consumers", "none is alive", "start `funnel consume`", "service")
    return ok("consumers", f"{len(alive)} alive: {', '.join(alive[:5])}")


def _dead_letters(row: Any) -> Line:
    said = f"{row['of_today']:,} in a day, {row['never_redriven']:,} never redriven"
    if row["redrives_open"]:
        return warn(
            "dead letters", f"{said}, {row['redrives_open']:,} redrives have not ended",
            "the next `funnel dead-letters redrive` notes their ends; are the lanes running?",
        )  # fmt: skip
    if row["of_today"]:
        return warn("dead letters", said, "funnel dead-letters list --not-redriven")
    return ok("dead letters", said)


def _operations(row: Any) -> Line:
    said = f"{row['running']:,} running"
    if row["stuck"]:
        said += (
            f", {row['stuck']:,} have not moved, {row['oldest']} for {span(row['still_seconds'])}"
        )
    return graded(
        "bulk operations", said, "look at its lane below; `funnel operations` pauses or cancels it",
        value=row["still_seconds"] if row["stuck"] else 0,
        warn_at=_STUCK_AFTER.total_seconds(), fail_at=_STUCK_SECONDS_FAIL,
    )  # fmt: skip
