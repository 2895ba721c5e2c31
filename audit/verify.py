"""`funnel verify`: does everything that we hold, and everything that we have told, agree?

Reads only, in bounded pieces, while consumers go on; each difference is counted and the first
ones are listed. States, lanes, identities and operations take turns on several connections; then
the output and the chain of seals, where they are asked for.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from audit.bookmark import Bookmark
from audit.chain_check import Head, check_chain, sealed_rows
from audit.database import open_audit
from audit.findings import Findings, Meter, Report
from audit.identities import identities_step
from audit.operations import operations_step
from audit.sequences import lane_step, read_lanes, strays_step
from audit.states import PARTS, divide_keys, states_step
from audit.walks import Step, walk_all

if TYPE_CHECKING:
    from audit.outputs import Output

JOBS = 2
"""A core of PostgreSQL's each, and less than one of ours for all."""


async def verify(
    database_url: str,
    *,
    deduplication: timedelta,
    report: Report,
    output: "Output | None" = None,
    chain_heads: Sequence[Head] | None = None,
    show_values: bool = False,
    bookmark: Path | None = None,
    resume: bool = False,
    jobs: int = JOBS,
) -> Findings:
    """Compare state, journal, lanes and, with `output`, the output topics.

    Args:
        deduplication: within this time no command is settled twice.
        chain_heads: follow the chain of seals, too; each of these is part of it.
        show_values: name the values of candidates' fields, which are personal data.
        bookmark: a file that remembers how far a run has got that is cut short.
        resume: go on there.
        jobs: connections that look at once.

    Raises:
        BookmarkRefused: there is nothing to go on with, or another verification was cut short.
        AuditRefused, TopicMissing: a role, a grant, a table or a topic is missing.
        OSError, asyncpg.PostgresConnectionError, KafkaError: a server does not answer.
    """
    async with AsyncExitStack() as opened:
        connections = [
            await opened.enter_async_context(open_audit(database_url, walking=True))
            for _ in range(jobs)
        ]
        connection = connections[0]
        lanes = await read_lanes(connection)
        marks = Bookmark(
            bookmark,
            {
                "database": await connection.fetchval("SELECT current_database()"),
                "lanes": len(lanes),
                "parts": PARTS,
                "names": "with states",
                "topics": output is not None,
                "chain": None if chain_heads is None else [*map(str, sorted(chain_heads))],
            },
        )
        if resume:
            marks.resume()
        rows_total = sum(lane.journal_sequence for lane in lanes)
        changes_total = sum(lane.change_sequence for lane in lanes)
        passes = 1 if output is None else 2  # identities and operations take little
        meter = Meter(rows_total * passes + changes_total, report)
        meter.done = marks.findings.rows["journal rows"] + marks.findings.rows["versions"]
        if chain_heads is not None:
            meter.total += await sealed_rows(connection)
        try:
            walks = await _states(connection, marks, meter, show_values=show_values)
            walks |= {f"lane {lane.lane}": lane_step(lane.lane, meter) for lane in lanes}
            walks["strays"] = strays_step
            walks["identities"] = identities_step(deduplication)
            walks["operations"] = operations_step
            await walk_all(connections, walks, marks)
            if output is not None:
                from audit.outputs import check_outputs  # Kafka's client takes a while to load

                await check_outputs(connection, lanes, output, marks, meter)
            if chain_heads is not None:
                numbers = [lane.lane for lane in lanes]
                await check_chain(connection, numbers, marks, meter, heads=chain_heads)
        except BaseException:
            marks.write()
            raise
    marks.forget()
    return marks.findings


async def _states(
    connection: asyncpg.Connection, marks: Bookmark, meter: Meter, *, show_values: bool
) -> dict[str, Step]:
    """The parts of the keys, as they were divided at first."""
    if marks.place("states 0") is None:
        for part, place in enumerate(await divide_keys(connection)):
            marks.reached(f"states {part}", place)
    step = states_step(meter, show_values=show_values)
    parts = (f"states {part}" for part in range(PARTS))
    return {part: step for part in parts if marks.place(part) is not None}
