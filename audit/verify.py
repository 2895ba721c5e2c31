"""`funnel verify`: does everything that we hold, and everything that we have told, agree?

Reads only, in bounded pieces, while consumers go on; each difference is counted and the first
ones are listed. Checks follow one another from the narrow to the wide: sequences, identities,
states, and the output and the chain of seals where they are asked for.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit.bookmark import Bookmark, merged
from audit.chain_check import Head, check_chain, sealed_rows
from audit.database import open_audit
from audit.findings import Findings, Meter, Report
from audit.identities import check_identities
from audit.operations import check_operations
from audit.outputs import Output, check_outputs
from audit.sequences import check_sequences, read_lanes
from audit.states import check_states


async def verify(
    database_url: str,
    *,
    deduplication: timedelta,
    report: Report,
    output: Output | None = None,
    chain_heads: Sequence[Head] | None = None,
    show_values: bool = False,
    bookmark: Path | None = None,
    resume: bool = False,
) -> Findings:
    """Compare state, journal, lanes and, with `output`, the output topics.

    Args:
        deduplication: within this time no command is settled twice.
        chain_heads: follow the chain of seals, too; each of these is part of it.
        show_values: name the values of candidates' fields, which are personal data.
        bookmark: a file that remembers how far a run has got that is cut short.
        resume: go on there.

    Raises:
        BookmarkRefused: there is nothing to go on with, or another verification was cut short.
        AuditRefused, TopicMissing: a role, a grant, a table or a topic is missing.
        OSError, asyncpg.PostgresConnectionError, KafkaError: a server does not answer.
    """
    async with open_audit(database_url) as connection, open_audit(database_url) as another:
        lanes = await read_lanes(connection)
        marks = Bookmark(
            bookmark,
            {
                "database": await connection.fetchval("SELECT current_database()"),
                "lanes": len(lanes),
                "topics": output is not None,
                "chain": chain_heads is not None,
            },
        )
        if resume:
            marks.resume()
        one, other = marks.side("journal"), marks.side("states")
        rows_total = sum(lane.journal_sequence for lane in lanes)
        changes_total = sum(lane.change_sequence for lane in lanes)
        passes = 2 if output is None else 3
        meter = Meter(rows_total * passes + changes_total, report)
        meter.done = one.findings.rows["journal rows"] + other.findings.rows["versions"]
        if chain_heads is not None:
            meter.total += await sealed_rows(connection)

        async def check_journal() -> None:
            await check_sequences(connection, lanes, one, meter)
            await check_identities(
                connection, one, meter, rows_total=rows_total, deduplication=deduplication
            )
            if not one.place("operations"):
                await check_operations(connection, one.findings)
                one.reached("operations", True)

        try:
            await _both(
                check_journal(), check_states(another, other, meter, show_values=show_values)
            )
            if output is not None:
                await check_outputs(connection, lanes, output, one, meter)
            if chain_heads is not None:
                numbers = [lane.lane for lane in lanes]
                await check_chain(connection, numbers, one.findings, meter, heads=chain_heads)
        except BaseException:
            marks.write()
            raise
    marks.forget()
    return merged(one.findings, other.findings)


async def _both(one: Coroutine[Any, Any, None], other: Coroutine[Any, Any, None]) -> None:
    """At once; the first to fail ends the other, and its error is the one that is told."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(one)
            group.create_task(other)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
