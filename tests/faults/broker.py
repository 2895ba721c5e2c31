"""What a test does to topics behind the service's back."""

import asyncio
from collections.abc import AsyncIterator, Container, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import InvalidTxnState, for_code

from contract.events import OutputRecord
from contract.topics import Topics

Kafka = Mapping[str, Any]
_WRITTEN = ("timestamp", "key", "value", "headers")
_NOTED_WITHIN_SECONDS = 20.0
"""A broker takes note of its configuration some time after the controller has said yes."""


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
    await _configure(kafka, ConfigResource(ConfigResourceType.TOPIC, topic, configs=config))


async def write(kafka: Kafka, topic: str, partition: int, value: bytes, key: bytes) -> None:
    """One record that the service did not write."""
    producer = AIOKafkaProducer(**kafka)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key, partition=partition)
    finally:
        await producer.stop()


async def fence(kafka: Kafka, topics: Topics, lane: int) -> None:
    """Whatever a publisher of this lane had under way is decided when this returns."""
    producer = AIOKafkaProducer(**kafka, transactional_id=topics.transactional_id(lane))
    await producer.start()
    await producer.stop()


async def forget_transaction(
    kafka: Kafka, topics: Topics, lane: int, records: Iterable[OutputRecord], told: Container[str]
) -> None:
    """What KAFKA-20734 leaves behind: a transaction of a lane's publisher that is over, without
    its end on the topics that are not `told`; committed if there is one that is."""
    forgotten = False
    await _configure(kafka, _verification("false"))
    try:
        async with asyncio.timeout(_NOTED_WITHIN_SECONDS):
            while not forgotten:
                forgotten = await _forgotten(kafka, topics, lane, records, told)
    finally:
        await _configure(kafka, _verification("true"))


async def _forgotten(
    kafka: Kafka, topics: Topics, lane: int, records: Iterable[OutputRecord], told: Container[str]
) -> bool:
    producer = AIOKafkaProducer(**kafka, transactional_id=topics.transactional_id(lane))
    try:
        await producer.start()
        await producer.begin_transaction()
        for record in records:
            if record.topic not in told:
                # As good as told of: it will not name the partition to the coordinator.
                at = TopicPartition(record.topic, record.partition)
                producer._txn_manager._txn_partitions.add(at)
            batch = producer.create_batch()
            batch.append(**{name: getattr(record, name) for name in _WRITTEN})
            await (await producer.send_batch(batch, record.topic, partition=record.partition))
        if told:
            await producer.commit_transaction()
    except InvalidTxnState:  # the broker has not taken note yet
        return False
    finally:
        await producer.stop()
    return True


def _verification(verify: str) -> ConfigResource:
    """Whether brokers ask the coordinator if a record belongs to a transaction that it knows."""
    config = {"transaction.partition.verification.enable": verify}
    return ConfigResource(ConfigResourceType.BROKER, "1", configs=config)


async def _configure(kafka: Kafka, resource: ConfigResource) -> None:
    async with _admin(kafka) as admin:
        answers = await admin.alter_configs([resource])
    for answer in answers:
        for code, message, *_ in answer.resources:
            if code:
                raise for_code(code)(message)


@asynccontextmanager
async def _admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
