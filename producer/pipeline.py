"""A bounded number of coroutines at work, their results in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_order(
    coroutines: AsyncIterable[Coroutine[Any, Any, T]], under_way_max: int
) -> AsyncGenerator[T]:
    """What they return, in order, while at most so many of them run.

    They are started in order too. When the generator ends early, whatever still runs is cancelled
    and awaited.
    """
    under_way: deque[asyncio.Task[T]] = deque()
    try:
        async for coroutine in coroutines:
            under_way.append(asyncio.create_task(coroutine))
            if len(under_way) == under_way_max:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
