"""Checks as walks: each goes through its part of the database step by step, several at once.

A step is one bounded piece of work on one connection. What it finds is kept apart until it is
through, and then counts together with the place that it has reached; so whenever a run is cut
short, nothing counts that is looked at again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from audit.bookmark import Bookmark
from audit.findings import Findings

Step = Callable[[asyncpg.Connection, Any, Findings], Awaitable[Any]]
"""From a place, None at first, to the next one, None at the end. A place is of JSON's types."""

_END = "end"


async def walk_all(
    connections: Sequence[asyncpg.Connection], walks: Mapping[str, Step], marks: Bookmark
) -> None:
    """Walk each to its end from where the bookmark has it, taking turns, a step a connection.

    Turns, since all lanes share the pages of the journal: what one has read, the next one finds.
    """
    waiting = deque(name for name in walks if marks.place(name) != _END)

    async def work(connection: asyncpg.Connection) -> None:
        while waiting:
            name = waiting.popleft()
            found = Findings()
            place = await walks[name](connection, marks.place(name), found)
            marks.findings.merge(found)
            marks.reached(name, _END if place is None else place)
            if place is not None:
                waiting.append(name)

    await together(work(connection) for connection in connections)


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first to fail ends the others, and its error is the one that is told."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
