"""Bulk operations: against the same writes as one SQL statement, and beside single updates.

A deployment of its own with one lane, so that nothing but the lane's own turns stand between a
single update and a large operation; the clock runs from the send to the readable end.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Literal, NamedTuple
from uuid import uuid4

import asyncpg

from bench.figures import rss_mb
from bench.leftovers import clear_up
from bench.service import Latency, run_latency
from bench.workload import SOURCE, Workload
from contract.topics import Topics
from producer.client import CommandClient, CommandResult, OutgoingCommand

SMALL = 1000
"""What the memory of a large operation is compared with."""
LANE_ORGANIZATIONS = 2
"""Of each Workload here: one for the operations, one for the single updates beside them."""
_PER_SECOND = 50.0
_BESIDE_MAX = 6000
"""Single updates beside an operation: more than any takes."""
_STATUSES: tuple[Literal["interview", "offer"], ...] = ("interview", "offer")


class Bulk(NamedTuple):
    """Seconds and milliseconds from send to readable end; memory in MiB."""

    candidates_total: int
    sql_seconds: float
    seconds: float
    ids_ms: dict[int, float]
    alone: Latency
    beside: Latency
    small_rss_mb: float
    large_rss_mb: float


async def run_sql(database_url: str, workload: Workload, turn: int) -> float:
    """The writes of one operation as one statement: state, journal with change JSON, items."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SELECT ensure_journal_partitions(now() + interval '2 days')")
        sql = _SQL.format(
            organization_id=workload.organization_id(0),
            operation_id=uuid4(),
            done=turn * workload.candidates_total,
        )
        started = time.perf_counter()
        await connection.execute(sql)
        seconds = time.perf_counter() - started
        await clear_up(database_url)
        return seconds
    finally:
        await connection.close()


async def run_bulk(
    *,
    kafka: Mapping[str, Any],
    topics: Topics,
    workload: Workload,
    database_url: str,
    consumer: int,
    sql: Callable[[int], Awaitable[float]],
    turns_total: int,
    latency_total: int,
) -> Bulk:
    """Operations on the first organization, single updates of the second.

    Args:
        consumer: its pid.
        sql: the same writes as one statement, by the number of the turn; seconds.
        turns_total: of `sql` and of an operation, one after the other.
    """
    organization_id = workload.organization_id(0)
    numbers = range(0, workload.candidates_total, LANE_ORGANIZATIONS)
    ids = [workload.candidate_id(number) for number in numbers]

    async with CommandClient(kafka=kafka, source=SOURCE, topics=topics) as client:

        async def operate(rating: int, **chosen: Any) -> float:
            command = OutgoingCommand.bulk_update(
                organization_id=organization_id, actor="bench",
                changes={"rating": rating, "status": _STATUSES[rating % 2]}, **chosen,
            )  # fmt: skip
            started = time.perf_counter()
            async with aclosing(client.follow(command, wait=120)) as told:
                async for each in told:
                    assert not isinstance(each, CommandResult) or not each.refused, each
            return time.perf_counter() - started

        await operate(1, candidate_ids=ids[:50])  # connects, and warms up
        ids_ms = {n: 1000 * await operate(2, candidate_ids=ids[:n]) for n in (100, 500)}
        await operate(3, candidate_ids=ids[: SMALL + 1])
        small_rss_mb = rss_mb(consumer, peak=True)
        everybody = {"created_since": "2000-01-01T00:00:00Z"}
        sql_seconds = seconds = 0.0
        await clear_up(database_url)
        for turn in range(turns_total):
            sql_seconds += await sql(turn) / turns_total
            seconds += await operate(turn, filter=everybody) / turns_total
            await clear_up(database_url)
        large_rss_mb = rss_mb(consumer, peak=True)

        async def latency(round_number: int, total: int, during: Any = None) -> Latency:
            updates = workload.updates(total, round_number=round_number, organization=1)
            return await run_latency(
                kafka=kafka, topics=topics, partitions_total=1, updates=updates,
                per_second=_PER_SECOND, beside=during,
            )  # fmt: skip

        alone = await latency(4, latency_total)
        await clear_up(database_url)
        operating = asyncio.create_task(operate(5, filter=everybody))
        beside = await latency(5, _BESIDE_MAX, operating)
        await operating
    return Bulk(len(ids), sql_seconds, seconds, ids_ms, alone, beside, small_rss_mb, large_rss_mb)


def bulk_rows(bulk: Bulk) -> list[tuple[str, str, str]]:
    """For the table of figures."""
    total = f"{bulk.candidates_total:,}"
    return [
        (
            f"one operation over {total} candidates",
            f"{bulk.seconds:.1f} s",
            f"{bulk.seconds / bulk.sql_seconds:.2f} × one SQL statement ({bulk.sql_seconds:.1f} s)",
        ),
        (
            f"p99 of single updates beside it, at {_PER_SECOND:g} a second",
            f"{bulk.beside.p99_ms:.0f} ms",
            f"{bulk.beside.p99_ms / bulk.alone.p99_ms:.1f} × alone ({bulk.alone.p99_ms:.0f} ms)",
        ),
        *(
            (f"bulk of {total:,} ids, send to readable result", f"{ms:.0f} ms", "")
            for total, ms in bulk.ids_ms.items()
        ),
        (
            f"memory of a consumer, {total} candidates against {SMALL:,}",
            f"{bulk.large_rss_mb:.0f} MiB",
            f"{bulk.large_rss_mb - bulk.small_rss_mb:+.0f} MiB",
        ),
    ]


_SQL = """
WITH changed AS (
    UPDATE candidates AS c
    SET rating = 4, status = 'offer', version = c.version + 1, updated_at = now()
    WHERE organization_id = '{organization_id}'
    RETURNING new.*, old.rating AS rating_before, old.status AS status_before,
              old.version AS version_before
), numbered AS (
    SELECT *, row_number() OVER (ORDER BY candidate_id) AS n FROM changed
), journaled AS (
    INSERT INTO journal (recorded_at, lane, journal_sequence, result_sequence, change_sequence,
                         kind, source_offset, organization_id, candidate_id, command_id,
                         command_source, command_type, actor, version, previous_version, change,
                         builder, operation_id)
    SELECT updated_at, 0, {done} + n, {done} + n / 500 + 1, {done} + n, 'item', 0,
           organization_id, candidate_id, 'bench',
           '/gulf-funnel/bench', 'candidate.bulk-update.v1', 'bench', version, version_before,
           json_build_object(
               'organization_id', organization_id, 'candidate_id', candidate_id,
               'version', version, 'previous_version', version_before,
               'changed', json_build_object(
                   'rating', json_build_object('from', rating_before, 'to', rating),
                   'status', json_build_object('from', status_before, 'to', status)),
               'state', json_build_object(
                   'organization_id', organization_id, 'candidate_id', candidate_id,
                   'first_name', first_name, 'last_name', last_name, 'email', email,
                   'phone', phone, 'status', status, 'pipeline_stage', pipeline_stage,
                   'rating', rating, 'source', source, 'tags', tags, 'attributes', attributes,
                   'version', version, 'created_at', created_at, 'updated_at', updated_at),
               'actor', 'bench', 'command_id', 'bench', 'command_source', '/gulf-funnel/bench',
               'operation_id', organization_id, 'sequence', n, 'recorded_at', updated_at),
           1, '{operation_id}'
    FROM numbered
)
INSERT INTO bulk_operation_items (organization_id, operation_id, ordinal, candidate_id, outcome,
                                  version)
SELECT organization_id, '{operation_id}', n, candidate_id, 'applied', version FROM numbered
"""
