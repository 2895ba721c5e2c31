"""A consumer as an operating-system process of its own, so that a test can kill or pause it.

`python -m tests.faults.process` with its settings as JSON in FUNNEL_TEST_CONSUMER; crash points by
FUNNEL_CRASH_AT and FUNNEL_PAUSE_AT; log lines as JSON on stderr.
"""

import asyncio
import io
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

import consumer.service
from contract.lanes import Hook
from contract.topics import Topics
from funnel.consume import ConsumeConfig, run_consumer
from funnel.crash import crash_hook
from funnel.logs import configure_logs
from funnel.metrics_server import serve_metrics
from funnel.shutdown import stop_signals
from funnel.stall import stall_watch

VARIABLE = "FUNNEL_TEST_CONSUMER"
EXIT_FAILED = 70


async def consume() -> None:
    settings = json.loads(os.environ[VARIABLE])
    take_detours(settings["detours"])
    # A test cannot wait as long as an operator does.
    vars(consumer.service)["LANE_RETRY_SECONDS"] = settings["lane_retry_seconds"]
    config = ConsumeConfig(
        database_url=settings["database_url"],
        kafka=settings["kafka"],
        topics=Topics(prefix=settings["topic_prefix"]),
        consumer_id=settings["consumer_id"],
        event_source=settings["event_source"],
        lease=timedelta(seconds=settings["lease_seconds"]),
        watchdog=timedelta(seconds=settings["watchdog_seconds"]),
        batch_records_max=settings["batch_records_max"],
        chunk_items=settings["chunk_items"],
        seal_every=timedelta(seconds=every) if (every := settings["seal_seconds"]) else None,
        hook=failing_at(settings["fail_at"])
        or stalling_at(settings["stall_at"], settings["stall_seconds"])
        or crash_hook(
            crash_at=os.environ.get("FUNNEL_CRASH_AT"), pause_at=os.environ.get("FUNNEL_PAUSE_AT")
        ),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell_tasks)
    watch = stall_watch(config.watchdog) if settings["stall_watch"] else nullcontext()
    registry = CollectorRegistry()
    serve_metrics(registry, host="127.0.0.1", port=settings["metrics_port"])
    with stop_signals() as stopping, watch:
        await run_consumer(config, stopping, registry)


def tell_tasks() -> None:
    """For a test that waits in vain: where everything here waits."""
    for task in asyncio.all_tasks():
        frames = io.StringIO()
        task.print_stack(limit=4, file=frames)
        structlog.get_logger("tests").info("task", action="task_waits", frames=frames.getvalue())


def take_detours(detours: Mapping[str, int]) -> None:
    """Connect to another port wherever one of these is asked for.

    Kafka tells its clients where to connect, so a proxy can stand before it only so.
    """
    loop: Any = asyncio.get_running_loop()
    connect = loop.create_connection

    async def create_connection(
        factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        return await connect(factory, host, detours.get(str(port), port), **options)

    loop.create_connection = create_connection


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid: int) -> int:
    """The most that a process has held in memory so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kibibytes) * 1024


def failing_at(point: str | None) -> Hook | None:
    """A hook that raises what nobody expects, at `name:n`."""
    if point is None:
        return None
    name, _, times = point.partition(":")
    reached = count(1)

    def hook(step: str) -> None:
        if step == name and next(reached) == int(times):
            raise RuntimeError(step)

    return hook


def stalling_at(point: str | None, seconds: float) -> Hook | None:
    """A hook that keeps the event loop busy with nothing, at `name:n`."""
    if point is None:
        return None
    name, _, times = point.partition(":")
    reached = count(1)

    def hook(step: str) -> None:
        if step == name and next(reached) == int(times):
            structlog.get_logger("tests").info("stalls", action="stalls")
            time.sleep(seconds)

    return hook


def main() -> int:
    configure_logs(level="INFO", log_format="json")
    try:
        asyncio.run(consume())
    except Exception as error:  # noqa: BLE001 the test is told which, and the exit code
        structlog.get_logger("tests").exception(
            "consumer failed", action="consumer_failed", error=type(error).__name__
        )
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
