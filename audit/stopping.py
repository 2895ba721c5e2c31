"""Kafka clients of an audit, stopped within a bound."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def stop_client(client: AIOKafkaConsumer | AIOKafkaProducer, *, seconds_max: float) -> None:
    """In a task of its own: aiokafka passes on the cancellation of its tasks. Left to itself after
    that, for a producer flushes for as long as a broker is gone.
    """
    stopping = asyncio.create_task(client.stop())
    stopping.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait({stopping}, timeout=seconds_max)
