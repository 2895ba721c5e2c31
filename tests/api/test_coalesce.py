"""Questions become few queries, and each gets its own answer."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from api.coalesce import Coalesced
from api.database import DatabaseAway
from api.limits import QUESTIONS_MAX
from tests.api.asking import until


class Asked:
    """Answers each key with its double, when it is let; fails once if it shall."""

    def __init__(self) -> None:
        self.batches: list[Sequence[int]] = []
        self.let = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, int]:
        self.batches.append(keys)
        await self.let.wait()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        return {key: key * 2 for key in keys if key >= 0}


async def test_questions__asked_at_once_are_one_query() -> None:
    asked = Asked()
    asked.let.set()
    double = Coalesced(asked)

    answers = await asyncio.gather(*(double.get(key) for key in (3, 1, 3, -1)))

    assert answers == [6, 2, 6, None]
    assert asked.batches == [[3, 1, -1]]


async def test_questions__asked_meanwhile_wait_for_the_next_query() -> None:
    asked = Asked()
    double = Coalesced(asked)
    first = asyncio.create_task(double.get(1))
    await until(lambda: len(asked.batches) == 1)
    later = [asyncio.create_task(double.get(key)) for key in (1, 2)]

    asked.let.set()

    assert await asyncio.gather(first, *later) == [2, 2, 4]
    assert asked.batches == [[1], [1, 2]]


async def test_questions__beyond_the_bound_are_another_query() -> None:
    asked = Asked()
    asked.let.set()
    double = Coalesced(asked)

    await asyncio.gather(*(double.get(key) for key in range(QUESTIONS_MAX + 1)))

    assert [len(batch) for batch in asked.batches] == [QUESTIONS_MAX, 1]


async def test_question__cancelled_harms_no_other() -> None:
    asked = Asked()
    double = Coalesced(asked)
    cancelled, other = (asyncio.create_task(double.get(key)) for key in (1, 2))
    await until(lambda: len(asked.batches) == 1)

    cancelled.cancel()
    asked.let.set()

    assert await other == 4
    assert await double.get(3) == 6


@pytest.mark.parametrize(
    ("failure", "second"), [(DatabaseAway("gone"), DatabaseAway), (KeyError(), None)]
)
async def test_failure__reaches_whoever_asked_and_an_outage_whoever_waits(
    failure: Exception, second: type[Exception] | None
) -> None:
    asked = Asked()
    asked.failure = failure
    double = Coalesced(asked)
    first = asyncio.create_task(double.get(1))
    await until(lambda: len(asked.batches) == 1)
    waiting = asyncio.create_task(double.get(2))
    await asyncio.sleep(0)

    asked.let.set()
    with pytest.raises(type(failure)):
        await first

    if second is None:
        assert await waiting == 4
    else:
        with pytest.raises(second):
            await waiting
    assert await double.get(3) == 6
