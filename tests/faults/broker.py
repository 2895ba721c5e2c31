"""What a test does to topics behind the service's back."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

Kafka = Mapping[str, Any]
T = TypeVar("T")


async def expire(kafka: Kafka, topic: str, before: dict[int, int]) -> None:
    """Remove the records below an offset of each partition, as retention does."""
    async with admin(kafka) as client:
        await client.delete_records(
            {
                TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)
                for partition, offset in before.items()
            }
        )
