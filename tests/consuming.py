"""A consumer in the process of a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from funnel.consume import ConsumeConfig, run_consumer


@asynccontextmanager
async def consuming(**config: Any) -> AsyncIterator[None]:
    """Runs until the context ends, then hands its lanes over."""
    stopping = asyncio.Event()
    consumer = asyncio.create_task(
        run_consumer(ConsumeConfig(**config), stopping, CollectorRegistry())
    )
    try:
        yield
    finally:
        stopping.set()
        await consumer
