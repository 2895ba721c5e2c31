"""What a test does to topics behind the service's back."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from contract.topics import Topics

Kafka = Mapping[str, Any]


async def expire(kafka: Kafka, topic: str, before_offsets: Mapping[int, int]) -> None:
    """Remove the records below an offset of each partition, as retention does."""
    async with _admin(kafka) as admin:
        await admin.delete_records(
            {
                TopicPartition(topic, partition): RecordsToDelete(before_offset=offset)
                for partition, offset in before_offsets.items()
            }
        )


async def delete_topic(kafka: Kafka, topic: str) -> None:
    async with _admin(kafka) as admin:
        await admin.delete_topics([topic])


async def add_partitions(kafka: Kafka, topic: str, partitions_total: int) -> None:
    async with _admin(kafka) as admin:
        await admin.create_partitions({topic: NewPartitions(partitions_total)})


async def limit_message_bytes(kafka: Kafka, topics: Topics, topic: str, limit: int | None) -> None:
    """Set what a record batch of the topic may weigh; None: as it was created."""
    (config,) = (spec.config for spec in topics.specs() if spec.name == topic)
    if limit is not None:
        config = config | {"max.message.bytes": str(limit)}
    async with _admin(kafka) as admin:
        answers = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)]
        )
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code:
                raise for_code(code)(message)


async def write(kafka: Kafka, topic: str, partition: int, value: bytes, key: bytes) -> None:
    """One record that the service did not write."""
    producer = AIOKafkaProducer(**kafka)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


@asynccontextmanager
async def _admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
