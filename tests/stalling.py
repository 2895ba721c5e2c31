"""The shared broker stands still for a while, and is whole again for whoever comes next."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from stack.embedded import EmbeddedStack

BACK_S_MAX = 60.0
CALM_S = 1.5
"""Several of its heartbeats: in the first of them its controller may still take it for lost."""


@asynccontextmanager
async def kafka_stalled(stack: EmbeddedStack, kafka: Mapping[str, Any]) -> AsyncIterator[None]:
    """Kafka neither answers nor refuses inside the context; after it, each partition is led."""
    stack.kafka.pause()
    try:
        yield
    finally:
        stack.kafka.resume()
        await _broker_is_back(kafka)


async def _broker_is_back(kafka: Mapping[str, Any]) -> None:
    now = asyncio.get_running_loop().time
    async with asyncio.timeout(BACK_S_MAX):
        calm_since = now()
        while now() - calm_since < CALM_S:
            if not await _leads_everything(kafka):
                calm_since = now()
            await asyncio.sleep(0.1)


async def _leads_everything(kafka: Mapping[str, Any]) -> bool:
    admin = AIOKafkaAdminClient(**kafka)
    try:
        await admin.start()
        brokers = (await admin.describe_cluster())["brokers"]
        topics = await admin.describe_topics(None)
    except KafkaError:
        return False
    finally:
        await admin.close()
    leaders = [part["leader"] for topic in topics for part in topic["partitions"]]
    return bool(brokers) and all(leader >= 0 for leader in leaders)
