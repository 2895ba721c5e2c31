"""What a long journal and its seals cost the hot path, on servers of their own.

`python -m bench.long_journal --rows 50000000` fills a journal (some 60 GB of disk), seals and
checks it, and compares: commands a second beside an empty journal, and with the sealer on and off.
Each comparison alternates, A B B A, as the machine is never the same twice.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.figures import cpu_seconds
from bench.journal_fill import Fill, fill
from bench.service import consumer_processes, fresh_topics, run_throughput
from bench.workload import Workload
from contract.topics import Topics
from funnel.consume import describe
from migrations.runner import migrate_up
from producer.admin import apply_topics
from stack import EmbeddedStack, Servers

LANES_TOTAL = 8
VERSIONS = 5
_WARM_UP = 10_000
_OFF, _ON = {"FUNNEL_SEAL_SECONDS": "0"}, {"FUNNEL_SEAL_SECONDS": "1"}


class Place(NamedTuple):
    """A database with candidates to update, and its topics; rounds that were used."""

    database_url: str
    topics: Topics
    rounds: list[int]


def main() -> None:
    """Parse, run, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--changes-every", type=int, default=5)
    parser.add_argument("--updates", type=int, default=40_000, help="of each round")
    parser.add_argument("--candidates", type=int, default=100_000, help="that are updated")
    parser.add_argument("--folder", type=Path, default=None, help="where there is room")
    asyncio.run(_main(parser.parse_args()))


async def _main(chosen: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="funnel-long-", dir=chosen.folder) as data:
        stack = EmbeddedStack(Path(data), report=_tell)
        try:
            servers = await asyncio.to_thread(stack.start)
            with (Path(data) / "consumer.log").open("wb") as log:
                rows = await _run(chosen, servers, stack.postgres.status().pid or 0, log)
        finally:
            await asyncio.to_thread(stack.stop)
    for row in rows:
        print(f"| {' | '.join(row)} |")


async def _run(
    chosen: argparse.Namespace, servers: Servers, postgres_pid: int, log: Any
) -> list[tuple[str, str]]:
    history = {
        "candidates_total": max(LANES_TOTAL, chosen.rows // VERSIONS // chosen.changes_every),
        "versions_total": VERSIONS,
        "changes_every": chosen.changes_every,
        "lanes_total": LANES_TOTAL,
        "at_topic_start": True,
    }
    workload = Workload(7, chosen.candidates)
    empty = await _place(servers, None)
    _tell(f"filling {chosen.rows:,} rows")
    long = await _place(servers, history)
    commands = {
        f"funnel {' '.join(words)}, {chosen.rows:,} rows": await _command(
            words, long.database_url, postgres_pid
        )
        for words in (("journal", "seal"), ("verify", "--chain"))
    }
    for place in (empty, long):  # only now: the journal knows nothing of these
        await workload.create_candidates(place.database_url)
    beside = await _compare(
        chosen, servers, workload, log, (empty, _OFF), (long, _OFF), turns="ABBAABBA"
    )
    sealing = await _compare(
        chosen, servers, workload, log, (long, _OFF), (long, _ON), turns="ABBA"
    )
    return [
        (f"commands beside {chosen.rows:,} rows", beside),
        *commands.items(),
        ("commands with the sealer on", sealing),
    ]


async def _place(servers: Servers, history: Mapping[str, Any] | None) -> Place:
    url = servers.database_url.rpartition("/")[0] + f"/long_{uuid.uuid4().hex[:8]}"
    await migrate_up(url, report=lambda _: None)
    kafka, topics = {"bootstrap_servers": servers.kafka_bootstrap_servers}, fresh_topics()
    await apply_topics(kafka, topics, partitions_total=LANES_TOTAL)
    if history is not None:
        cluster_id, _ = await describe(kafka, topics)
        wanted = Fill(**history, commands_topic=topics.commands, cluster_id=cluster_id)
        await fill(url, wanted, report=_tell)
    return Place(url, topics, [])


async def _compare(
    chosen: argparse.Namespace,
    servers: Servers,
    workload: Workload,
    log: Any,
    *contenders: tuple[Place, Mapping[str, str]],
    turns: str,
) -> str:
    """The rate of the second as a part of the first's, from rounds in the order of `turns`."""
    rates: tuple[list[float], list[float]] = ([], [])
    for which in map("AB".index, turns):
        place, settings = contenders[which]
        rates[which].append(await _rate(chosen, servers, workload, place, settings, log))
        _tell(f"  {'AB'[which]}: {rates[which][-1]:,.0f} commands/s")
    first, second = (statistics.median(each) for each in rates)
    return f"{second:,.0f} /s, {second / first:.3f} × {first:,.0f} /s"


async def _rate(
    chosen: argparse.Namespace,
    servers: Servers,
    workload: Workload,
    place: Place,
    settings: Mapping[str, str],
    log: Any,
) -> float:
    kafka = {"bootstrap_servers": servers.kafka_bootstrap_servers}
    async with consumer_processes(
        2,
        database_url=place.database_url,
        bootstrap_servers=servers.kafka_bootstrap_servers,
        topics=place.topics,
        log=log,
        settings=settings,
    ) as consumers:
        for total in (_WARM_UP, chosen.updates):
            place.rounds.append(len(place.rounds))
            done = await run_throughput(
                database_url=place.database_url,
                kafka=kafka,
                topics=place.topics,
                partitions_total=LANES_TOTAL,
                updates=workload.updates(total, round_number=place.rounds[-1]),
                pids={"consumers": consumers},
            )
    return done.commands_per_second


async def _command(words: tuple[str, ...], database_url: str, postgres_pid: int) -> str:
    """Seconds, and CPU seconds of PostgreSQL, of a command as an operator runs it."""
    started, before = time.perf_counter(), cpu_seconds(postgres_pid)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from funnel.cli import main; main()", *words,
        env=os.environ | {"DATABASE_URL": database_url},
    )  # fmt: skip
    if await process.wait():
        raise RuntimeError(f"funnel {' '.join(words)} failed")
    cpu = cpu_seconds(postgres_pid) - before
    return f"{time.perf_counter() - started:,.1f} s, PostgreSQL {cpu:,.1f} s of CPU"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
