"""How many queries waiting costs, and what ends a wait."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from api.database import Database, DatabaseAway
from api.queries import CommandKey, CommandStatus, read_commands
from api.waiting import CommandWaits, TooManyWaits
from tests.api.asking import until
from tests.api.rows import ORGANIZATION, Rows

WAIT_S = 30


@dataclass
class CountedLook:
    """The real query, counted; `failure` stands for a database that goes away."""

    database: Database
    keys: list[Sequence[CommandKey]] = field(default_factory=list)
    failure: Exception | None = None
    looked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, keys: Sequence[CommandKey]) -> dict[CommandKey, CommandStatus]:
        if self.failure is not None:
            raise self.failure
        self.keys.append(keys)
        statuses = await read_commands(self.database, keys)
        async with self.looked:
            self.looked.notify_all()
        return statuses

    async def times_more(self, total: int) -> None:
        """Return after so many further queries."""
        target = len(self.keys) + total
        async with self.looked:
            await self.looked.wait_for(lambda: len(self.keys) >= target)


@pytest.fixture
async def look(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CountedLook]:
    """Its database may be slow: what is tested are the waits."""
    for bound in ("ACQUIRE_S_MAX", "STATEMENT_S_MAX"):
        monkeypatch.setattr(f"api.database.{bound}", 10)
    database = Database(database_url)
    async with database.opened():
        yield CountedLook(database)


@pytest.fixture
async def waits(look: CountedLook) -> AsyncIterator[CommandWaits]:
    """With the task that looks."""
    waits = CommandWaits(look, waits_max=100)
    running = asyncio.create_task(waits.run())
    yield waits
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def key(number: int) -> CommandKey:
    return CommandKey(ORGANIZATION, f"command-{number}")


async def start(waits: CommandWaits, *numbers: int) -> list[asyncio.Task[CommandStatus]]:
    """Waits for these commands, once all of them wait."""
    tasks = [asyncio.create_task(waits.status(key(each), wait_s=WAIT_S)) for each in numbers]
    await until(lambda: waits.total == len(numbers))
    return tasks


async def test_wait__costs_one_query_a_tick_for_all(
    waits: CommandWaits, look: CountedLook, rows: Rows
) -> None:
    tasks = await start(waits, *range(60), *range(40))
    first_looks = len(look.keys)

    await look.times_more(2)
    for number in range(60):
        await rows.settled(f"command-{number}")
    statuses = await asyncio.gather(*tasks)

    assert first_looks == 1
    ticks = [set(keys) for keys in look.keys[1:3]]
    assert ticks == [{key(number) for number in range(60)}] * 2
    assert [status.ended and status.ended.command_id for status in statuses] == [
        f"command-{number}" for number in [*range(60), *range(40)]
    ]


async def test_wait__that_ended_leaves_the_others(
    waits: CommandWaits, look: CountedLook, rows: Rows
) -> None:
    settled, other = await start(waits, 1, 2)

    await rows.settled("command-1")
    status = await settled
    await look.times_more(1)

    assert status.ended is not None
    assert not other.done()
    assert list(look.keys[-1]) == [key(2)]
    other.cancel()


async def test_wait__cancelled_leaves_no_trace_and_queries_stop(
    waits: CommandWaits, look: CountedLook
) -> None:
    tasks = await start(waits, 1, 2)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert waits.total == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):  # ten ticks; one may be under way
            await look.times_more(2)


async def test_wait__ends_at_once_when_the_database_goes_away(
    waits: CommandWaits, look: CountedLook
) -> None:
    tasks = await start(waits, 1, 2)

    look.failure = DatabaseAway("gone")
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in answers] == [DatabaseAway, DatabaseAway]
    assert waits.total == 0


async def test_wait__goes_on_after_the_database_was_away(
    waits: CommandWaits, look: CountedLook, rows: Rows
) -> None:
    failed = await start(waits, 1)
    look.failure = DatabaseAway("gone")
    await asyncio.gather(*failed, return_exceptions=True)
    look.failure = None

    (later,) = await start(waits, 1)
    await rows.settled("command-1")

    assert (await later).ended is not None


async def test_wait__beyond_the_bound_is_refused(waits: CommandWaits) -> None:
    tasks = await start(waits, *range(100))

    with pytest.raises(TooManyWaits):
        await waits.status(key(100), wait_s=WAIT_S)
    assert (await waits.status(key(100), wait_s=0)).ended is None

    waits.end_all()
    assert [status.ended for status in await asyncio.gather(*tasks)] == [None] * 100


async def test_wait__after_the_end_of_all_is_none(waits: CommandWaits) -> None:
    waits.end_all()

    assert (await waits.status(key(1), wait_s=WAIT_S)).ended is None
