"""One run of everything, in turn, on servers of its own; figures as one table."""

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.audit import Audit, audit_rows, run_audit
from bench.bulk import LANE_ORGANIZATIONS, Bulk, bulk_rows, run_bulk, run_sql
from bench.ceiling import run_ceiling
from bench.http_reads import Reads, read_rows, run_reads
from bench.http_writes import api_process, run_patches
from bench.journal_fill import Fill
from bench.leftovers import clear_up, execute
from bench.service import (
    Latency,
    Throughput,
    consumer_processes,
    fresh_topics,
    run_latency,
    run_throughput,
    together,
)
from bench.usual import run_usual
from bench.workload import Update, Workload
from contract.topics import Topics
from migrations.runner import migrate_up
from producer.admin import apply_topics
from stack import EmbeddedStack, Servers

LANES_TOTAL = 8
TURNS = 3
"""That the contenders have; the machine is never the same for long."""
_BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchConfig:
    """How much of everything. The defaults are quick; the README's table says what it used."""

    candidates_total: int = 100_000
    updates_total: int = 40_000
    usual_total: int = 1000
    consumers_total: int = 2
    warm_up_total: int = 20_000
    one_lane_total: int = 20_000
    latency_total: int = 500
    latency_per_second: float = 50.0
    bulk_total: int = 20_000
    reads_seconds: float = 3.0
    history_candidates_total: int = 40_000
    history_versions_total: int = 5
    seed: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured; commands a second unless a name says otherwise."""

    config: BenchConfig
    usual: float
    ceilings: dict[int, float]
    service: Throughput
    one_lane: Throughput
    latency: Latency
    patch: Latency
    reads: Reads
    bulk: Bulk
    audit: Audit


async def run_bench(config: BenchConfig, *, report: Callable[[str], None]) -> Figures:
    """Everything, in one run. Servers and data live in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="funnel-bench-") as folder:
        stack = EmbeddedStack(Path(folder), report=report)
        try:
            servers = await asyncio.to_thread(stack.start)
            with (Path(folder) / "consumer.log").open("wb") as log:
                return await _run(config, servers, _pids(stack), log, report)
        finally:
            await asyncio.to_thread(stack.stop)


async def _run(
    config: BenchConfig,
    servers: Servers,
    pids: dict[str, list[int]],
    log: Any,
    report: Callable[[str], None],
) -> Figures:
    kafka = {"bootstrap_servers": servers.kafka_bootstrap_servers}
    workload = Workload(config.seed, config.candidates_total)
    async with _prepared(servers, kafka, workload, LANES_TOTAL) as (database_url, topics):
        consumers_here = partial(
            consumer_processes,
            config.consumers_total,
            database_url=database_url,
            bootstrap_servers=servers.kafka_bootstrap_servers,
            topics=topics,
            log=log,
        )

        async def serve(updates: Sequence[Update], warm_up: Sequence[Update]) -> Throughput:
            async with consumers_here() as consumers:
                for todo in (warm_up, updates):
                    served = await run_throughput(
                        database_url=database_url, kafka=kafka, topics=topics,
                        partitions_total=LANES_TOTAL, updates=todo,
                        pids=pids | {"consumers": consumers},
                    )  # fmt: skip
                return served

        usual, ceilings, service = await _in_turns(
            config, servers, kafka, workload, database_url, serve, report
        )
        async with consumers_here() as consumers:
            everybody = pids | {"consumers": consumers}
            report(f"(c) one organization alone, {config.one_lane_total} commands")
            one_lane = await run_throughput(
                database_url=database_url, kafka=kafka, topics=topics,
                partitions_total=LANES_TOTAL, pids=everybody,
                updates=workload.updates(config.one_lane_total, round_number=1, organization=1),
            )  # fmt: skip
            report(f"latency, {config.latency_per_second:g} commands a second")
            await clear_up(database_url)
            latency = await run_latency(
                kafka=kafka, topics=topics, partitions_total=LANES_TOTAL,
                updates=workload.updates(config.latency_total, round_number=2),
                per_second=config.latency_per_second,
            )  # fmt: skip
            report(f"PATCH over HTTP, {config.latency_per_second:g} a second")
            folder = Path(log.name).parent / "api"
            async with api_process(
                folder, database_url=database_url,
                bootstrap_servers=servers.kafka_bootstrap_servers, topics=topics, log=log,
            ) as url:  # fmt: skip
                patch = await run_patches(
                    url, folder, per_second=config.latency_per_second,
                    updates=_first_of_each(
                        workload.updates(2 * config.latency_total, round_number=9)
                    )[: config.latency_total],
                )  # fmt: skip
    reads = await _reads(config, servers, kafka, log, report)
    bulk = await _bulk(config, servers, kafka, log, report)
    return Figures(
        config=config, usual=usual, ceilings=ceilings, service=service, one_lane=one_lane,
        latency=latency, patch=patch, reads=reads, bulk=bulk,
        audit=await _audit(config, servers, pids, report),
    )  # fmt: skip


async def _in_turns(
    config: BenchConfig,
    servers: Servers,
    kafka: dict[str, str],
    workload: Workload,
    database_url: str,
    serve: Callable[[Sequence[Update], Sequence[Update]], Awaitable[Throughput]],
    report: Callable[[str], None],
) -> tuple[float, dict[int, float], Throughput]:
    """(a), (b) and (c) one after the other, and again: none has the machine's best minute alone.

    Args:
        database_url: the one that `serve` works on.
    """
    updates = workload.updates(config.updates_total)
    warm_up = workload.updates(config.warm_up_total, round_number=3)
    usual, ceilings = 0.0, dict.fromkeys((1, LANES_TOTAL), 0.0)
    served: list[Throughput] = []
    async with AsyncExitStack() as places:
        usual_at, *sql_at = [
            await places.enter_async_context(_prepared(servers, kafka, workload, partitions))
            for partitions in (1, *[None] * len(ceilings))
        ]
        for turn in range(TURNS):
            report(f"turn {turn + 1} of {TURNS}: (a) the usual way")
            usual += await run_usual(
                database_url=usual_at[0], kafka=kafka, topics=usual_at[1],
                updates=_part(updates[: config.usual_total], turn),
            )  # fmt: skip
            await clear_up(usual_at[0])
            for connections, (sql_url, _) in zip(ceilings, sql_at, strict=True):
                report(f"(b) the same writes in SQL only, connections: {connections}")
                ceilings[connections] += await run_ceiling(
                    database_url=sql_url, updates=_part(updates, turn),
                    lanes_total=connections, batch=_BATCH,
                )  # fmt: skip
                await clear_up(sql_url)
            report("(c) this service")
            served.append(await serve(_part(updates, turn), _part(warm_up, turn)))
            await clear_up(database_url)
    return (
        config.usual_total / usual,
        {connections: len(updates) / seconds for connections, seconds in ceilings.items()},
        together(served, len(updates)),
    )


def _part(updates: Sequence[Update], turn: int) -> Sequence[Update]:
    """What one of the turns does, in order."""
    return updates[len(updates) * turn // TURNS : len(updates) * (turn + 1) // TURNS]


async def _reads(
    config: BenchConfig,
    servers: Servers,
    kafka: dict[str, str],
    log: Any,
    report: Callable[[str], None],
) -> Reads:
    """All candidates in one organization."""
    workload = Workload(config.seed + 2, config.candidates_total, 1)
    report(f"GET over HTTP, and a walk over {config.candidates_total} candidates")
    async with _prepared(servers, kafka, workload, 1) as (database_url, topics):
        return await run_reads(
            database_url=database_url, bootstrap_servers=servers.kafka_bootstrap_servers,
            topics=topics, workload=workload, folder=Path(log.name).parent / "api-reads", log=log,
            seconds=config.reads_seconds,
        )  # fmt: skip


async def _audit(
    config: BenchConfig,
    servers: Servers,
    pids: dict[str, list[int]],
    report: Callable[[str], None],
) -> Audit:
    history = Fill(
        candidates_total=config.history_candidates_total,
        versions_total=config.history_versions_total,
        lanes_total=LANES_TOTAL,
    )
    report(f"verify and rebuild over {history.rows_total} journal rows")
    database_url = servers.database_url.rpartition("/")[0] + f"/bench_{uuid.uuid4().hex[:8]}"
    await migrate_up(database_url, report=lambda _: None)
    return await run_audit(
        database_url,
        history=history,
        postgres_pid=next(pid for name, (pid, *_) in pids.items() if name.startswith("postgres")),
        bootstrap_servers=servers.kafka_bootstrap_servers,
        report=report,
    )


async def _bulk(
    config: BenchConfig,
    servers: Servers,
    kafka: dict[str, str],
    log: Any,
    report: Callable[[str], None],
) -> Bulk:
    """On one lane of its own; the SQL works on another copy of the same candidates."""
    workload = Workload(config.seed + 1, LANE_ORGANIZATIONS * config.bulk_total, LANE_ORGANIZATIONS)
    report(f"one SQL statement that changes {config.bulk_total} candidates, and one operation")
    async with (
        _prepared(servers, kafka, workload, None) as (sql_url, _),
        _prepared(servers, kafka, workload, 1) as (database_url, topics),
        consumer_processes(
            1,
            database_url=database_url,
            bootstrap_servers=servers.kafka_bootstrap_servers,
            topics=topics,
            log=log,
        ) as consumers,
    ):
        return await run_bulk(
            kafka=kafka, topics=topics, workload=workload, database_url=database_url,
            consumer=consumers[0], sql=partial(run_sql, sql_url, workload), turns_total=TURNS,
            latency_total=config.latency_total,
        )  # fmt: skip


def _first_of_each(updates: Sequence[Update]) -> list[Update]:
    """No two of one candidate: each may be under way while any other is."""
    return [update for update in updates if update.seen_version == 1]


@asynccontextmanager
async def _prepared(
    servers: Servers, kafka: dict[str, str], workload: Workload, partitions_total: int | None
) -> AsyncIterator[tuple[str, Topics]]:
    """A database of its own with the candidates, and topics of its own.

    It is gone afterwards: what PostgreSQL would still clean up would be paid by the next.
    """
    name = f"bench_{uuid.uuid4().hex[:8]}"
    database_url = servers.database_url.rpartition("/")[0] + f"/{name}"
    await migrate_up(database_url, report=lambda _: None)
    await workload.create_candidates(database_url)
    topics = fresh_topics()
    if partitions_total is not None:
        await apply_topics(kafka, topics, partitions_total=partitions_total)
    await clear_up(database_url)
    yield database_url, topics
    await execute(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def _pids(stack: EmbeddedStack) -> dict[str, list[int]]:
    return {status.server: [status.pid] for status in stack.status() if status.pid is not None}


def table(figures: Figures) -> str:
    """The figures as the README shows them."""
    config, service, one = figures.config, figures.service, figures.one_lane
    cpu = ", ".join(f"{name} {seconds:.1f}" for name, seconds in service.cpu.items())
    rate_c = service.commands_per_second
    ratios = ", ".join(
        [f"{rate_c / figures.usual:.0f} × (a)"]
        + [f"{rate_c / rate:.2f} × (b, {n})" for n, rate in figures.ceilings.items()]
    )
    rows = [
        ("(a) the usual way", f"{figures.usual:,.0f} /s", ""),
        *(
            (f"(b) the same writes in SQL only, connections: {connections}", f"{rate:,.0f} /s", "")
            for connections, rate in figures.ceilings.items()
        ),
        ("(c) this service, send to readable result", f"{rate_c:,.0f} /s", ratios),
        ("one organization alone (one lane)", f"{one.commands_per_second:,.0f} /s", ""),
        (
            f"latency at {config.latency_per_second:g} commands/s",
            f"p50 {figures.latency.p50_ms:.0f} ms",
            f"p99 {figures.latency.p99_ms:.0f} ms",
        ),
        (
            f"PATCH over HTTP at {config.latency_per_second:g} a second, to its 200",
            f"p50 {figures.patch.p50_ms:.0f} ms",
            f"p99 {figures.patch.p99_ms:.0f} ms",
        ),
        *read_rows(figures.reads),
        *bulk_rows(figures.bulk),
        *audit_rows(figures.audit, applied_per_second=rate_c),
        ("CPU seconds of (c)", cpu, f"in {service.seconds:.1f} s"),
        (
            f"memory of a consumer ({config.consumers_total} run), highest",
            f"{service.consumer_rss_mb:.0f} MiB",
            "",
        ),
    ]
    head = f"{config.updates_total:,} updates over {config.candidates_total:,} candidates"
    lines = [f"| {head} | | |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    return "\n".join(lines)
