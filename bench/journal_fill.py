"""Fills journal, candidates and lanes with a long history, by a few set-based statements.

What it makes is what the service would have written, down to the JSON's layout, so that `verify`
finds no difference in it: candidate i of a lane gets its versions in rounds, each change followed
by `changes_every - 1` results that changed nothing. Indexes are built once the rows are there.
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import asyncpg

from domain.identity import home_lane

CHUNK_ROWS = 100_000
ORGANIZATIONS_A_LANE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How much of what.

    Attributes:
        changes_every: every so manieth row of the journal is a change.
        months: the history begins with the month so many months ago, and ends now.
        at_topic_start: lanes stand at offset 0, so that consumers go on with empty topics.
        connections: that fill at once; cores, rather than lanes.
    """

    candidates_total: int
    versions_total: int
    changes_every: int = 1
    lanes_total: int = 8
    months: int = 2
    at_topic_start: bool = False
    connections: int = 2
    commands_topic: str = "bench"
    cluster_id: str = "bench"

    @property
    def rows_total(self) -> int:
        """How many journal rows there will be."""
        return self.candidates_a_lane * self.versions_total * self.changes_every * self.lanes_total

    @property
    def candidates_a_lane(self) -> int:
        """The same number in each."""
        return self.candidates_total // self.lanes_total


async def fill(database_url: str, wanted: Fill, *, report: Callable[[str], None]) -> None:
    """Fill a migrated, empty database, as its owner."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_statement("fill_prepare"))
        await connection.execute("SELECT fill_months($1)", wanted.months, timeout=None)
        indexes = await _drop_indexes(connection)
        await _chunks(database_url, wanted, report)
        for statement in indexes:
            report(f"  {statement[:70]}")
            await connection.execute(statement, timeout=None)
        await connection.execute(
            _statement("fill_lanes"), wanted.lanes_total, wanted.commands_topic,
            wanted.cluster_id, wanted.candidates_a_lane * wanted.versions_total,
            wanted.changes_every, wanted.at_topic_start,
        )  # fmt: skip
        report("  VACUUM ANALYZE")
        await connection.execute("VACUUM ANALYZE candidates, journal", timeout=None)
        await connection.execute(_statement("fill_done"))
    finally:
        await connection.close()


async def _chunks(database_url: str, wanted: Fill, report: Callable[[str], None]) -> None:
    """All rows, in chunks of a lane, several at once."""
    changes = wanted.candidates_a_lane * wanted.versions_total
    size = max(1, CHUNK_ROWS // wanted.changes_every)
    todo: list[tuple[str, list[Any]]] = []
    for lane, organizations in enumerate(_organizations(wanted.lanes_total)):
        todo += [
            (
                "fill_journal",
                [lane, first, min(first + size, changes), wanted.candidates_a_lane, changes,
                 wanted.changes_every, organizations],
            )
            for first in range(0, changes, size)
        ]  # fmt: skip
        todo.append(
            (
                "fill_candidates",
                [lane, wanted.candidates_a_lane, wanted.versions_total, changes, organizations],
            )
        )  # fmt: skip
    waiting = iter(enumerate(todo, 1))

    async def work() -> None:
        connection = await asyncpg.connect(
            database_url, server_settings={"synchronous_commit": "off", "jit": "off"}
        )
        try:
            for number, (name, arguments) in waiting:
                await connection.execute(_statement(name), *arguments, timeout=None)
                if number % 20 == 0:
                    report(f"  {number} of {len(todo)} chunks")
        finally:
            await connection.close()

    await asyncio.gather(*(work() for _ in range(wanted.connections)))


async def _drop_indexes(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    """Drops them; the statements that make them again."""
    found = await connection.fetch(_statement("fill_indexes"))
    for each in found:
        await connection.execute(each["drop"])
    return ["SET maintenance_work_mem = '512MB'", *(each["create"] for each in found)]


def _organizations(lanes_total: int) -> list[list[uuid.UUID]]:
    """The same ones each time, by their home lane."""
    found: list[list[uuid.UUID]] = [[] for _ in range(lanes_total)]
    number = 0
    while any(len(each) < ORGANIZATIONS_A_LANE for each in found):
        organization = uuid.uuid5(uuid.NAMESPACE_URL, f"bench {number}")
        lane = home_lane(str(organization), lanes_total)
        if len(found[lane]) < ORGANIZATIONS_A_LANE:
            found[lane].append(organization)
        number += 1
    return found


def _statement(name: str) -> str:
    return (files("bench") / "sql" / f"{name}.sql").read_text()
