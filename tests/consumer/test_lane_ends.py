"""How a lane ends whose parts fail together."""

import asyncio
import gc
from typing import Any

import pytest

from consumer.lane import demand_success
from contract.lanes import LaneLost


async def test_demand_success__two_failures_are_one_and_none_is_told_later() -> None:
    async def lost(lane: int) -> None:
        raise LaneLost(lane)

    async def well() -> None:
        return

    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    try:
        tasks = [asyncio.ensure_future(each) for each in (well(), lost(1), well(), lost(2))]
        tasks[2].cancel()
        await asyncio.wait(tasks)
        with pytest.raises(LaneLost, match="1"):
            demand_success(tasks)
        tasks.clear()
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert told == []
