"""Kafka clients, stopped within a bound."""

import asyncio
from datetime import timedelta

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError


async def stop_clients(*clients: AIOKafkaConsumer | AIOKafkaProducer, within: timedelta) -> None:
    """Never awaited without a deadline: a producer flushes for as long as a broker is gone.

    Each in a task of its own, all begun at once: aiokafka passes on the cancellation of its own
    tasks, and who is cancelled here leaves none of them open. What takes longer is left to itself:
    cut short, it would never close its connections.
    """
    stopping = {asyncio.create_task(each.stop()) for each in clients}
    for task in stopping:
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait(stopping, timeout=within.total_seconds())


async def stop_or_cut(producer: AIOKafkaProducer, *, within: timedelta) -> Exception | None:
    """Stops what may still hold records: `stop()` flushes, for ever if Kafka is away, so after a
    while its connections are cut. Tells why they were.
    """
    try:
        async with asyncio.timeout(within.total_seconds()):
            await producer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        await producer.client.close()
        return error
    return None
