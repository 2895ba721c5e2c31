"""What looking back costs: verify and rebuild over a long history, beside a bare read of it.

The history is made by `bench.journal_fill`. Each command is a process of its own, as an operator
runs it, and its memory is what the kernel says it was at its highest.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from bench.figures import cpu_seconds, rss_mb
from bench.journal_fill import Fill, fill

_BARE_READ = "SELECT sum(octet_length(change::text)) FROM journal"
_LOOK_SECONDS = 0.1


class Run(NamedTuple):
    """One command over the history; CPU in seconds, of it and of PostgreSQL; memory in MiB."""

    seconds: float
    cpu: float
    rss_mb: float


class Audit(NamedTuple):
    """Rows of the journal, candidates, and what each look at them took."""

    rows_total: int
    candidates_total: int
    filled_seconds: float
    bare_read_seconds: float
    verify: Run
    rebuild: Run

    @property
    def verify_rows_per_second(self) -> float:
        """Journal rows that verify is through with in a second."""
        return self.rows_total / self.verify.seconds

    @property
    def rebuild_rows_per_second(self) -> float:
        """Journal rows behind the state that is rebuilt in a second."""
        return self.rows_total / self.rebuild.seconds


async def run_audit(
    database_url: str,
    *,
    history: Fill,
    postgres_pid: int,
    bootstrap_servers: str,
    report: Callable[[str], None],
) -> Audit:
    """Fill a migrated, empty database, and look at it in every way."""
    started = time.perf_counter()
    await fill(database_url, history, report=report)
    filled = time.perf_counter() - started
    connection = await asyncpg.connect(database_url)
    try:
        started = time.perf_counter()
        await connection.execute(_BARE_READ, timeout=None)
        bare = time.perf_counter() - started
    finally:
        await connection.close()
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
    }
    verify = await _run("verify", environment, postgres_pid)
    rebuild = await _run("rebuild", environment, postgres_pid)
    return Audit(history.rows_total, history.candidates_total, filled, bare, verify, rebuild)


async def _run(command: str, environment: dict[str, str], postgres_pid: int) -> Run:
    before, started = cpu_seconds(postgres_pid), time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from funnel.cli import main; main()", command, env=environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    cpu = peak = 0.0
    ended = asyncio.create_task(process.wait())
    while not ended.done():
        await asyncio.wait({ended}, timeout=_LOOK_SECONDS)
        with suppress(OSError):  # it may be gone by now
            peak = max(peak, rss_mb(process.pid, peak=True))
            cpu = max(cpu, cpu_seconds(process.pid))
    if ended.result():
        raise RuntimeError(f"funnel {command} ended with {ended.result()}")
    seconds = time.perf_counter() - started
    return Run(seconds, cpu + cpu_seconds(postgres_pid) - before, peak)


def audit_rows(
    audit: Audit, *, applied_per_second: float | None = None
) -> list[tuple[str, str, str]]:
    """The figures as rows of a table.

    Args:
        applied_per_second: commands that the service applies in the same run.
    """
    ratio = ""
    read = audit.verify.seconds / audit.bare_read_seconds
    if applied_per_second is not None:
        ratio = f"{audit.rebuild_rows_per_second / applied_per_second:.1f} × applying them, "
    return [
        (
            f"verify, {audit.rows_total:,} journal rows",
            f"{audit.verify_rows_per_second:,.0f} rows/s",
            f"{read:.1f} × a bare read, {_cost(audit.verify)}",
        ),
        (
            f"rebuild, {audit.candidates_total:,} candidates",
            f"{audit.rebuild_rows_per_second:,.0f} rows/s",
            ratio + _cost(audit.rebuild),
        ),
    ]  # fmt: skip


def _cost(run: Run) -> str:
    return f"{run.cpu:.1f} CPU s, {run.rss_mb:.0f} MiB"
