"""What is repaired in aiokafka, on a real broker and the loop that the service runs on."""

import asyncio
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from producer.repairs import repair_aiokafka


async def test_broken_connection__is_told_as_one_and_replaced(
    kafka_options: dict[str, Any],
) -> None:
    async def break_and_go_on() -> None:
        async with AIOKafkaProducer(**kafka_options) as producer:
            assert await producer.client.force_metadata_update()
            (connection,) = producer.client._conns.values()
            connection._writer.transport.abort()
            await asyncio.sleep(0)
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))
            assert not connection.connected()
            assert await producer.client.force_metadata_update()

    repair_aiokafka()
    await asyncio.to_thread(uvloop.run, break_and_go_on())
