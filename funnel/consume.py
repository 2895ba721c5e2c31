"""The consumer process put together: Kafka, PostgreSQL, the lanes and their publishers.

The only place where the rooms `consumer` and `producer` meet.
"""

import asyncio
import gc
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiokafka.record.default_records
import structlog
from aiokafka.admin import AIOKafkaAdminClient
from prometheus_client import CollectorRegistry

from consumer.apply import Apply
from consumer.background import Background
from consumer.bulk import BulkWrites
from consumer.decode import Decoder
from consumer.erasing import Erasing
from consumer.lane import Lane
from consumer.membership import Claim, Membership
from consumer.metrics import ConsumerMetrics
from consumer.operation_store import OperationStore
from consumer.partitions import JournalPartitions
from consumer.retention import Retention
from consumer.service import ConsumerService
from consumer.source import Source
from consumer.store import LaneStore, open_pool
from consumer.tolerant import tolerate_hostile_batches
from contract.events import EventBuilder
from contract.lanes import Hook
from contract.spans import OpenSpan, untraced
from contract.topics import Topics
from domain.commands import CommandParser
from domain.limits import APPLYING_BATCHES_MAX, BULK_CHUNK_ITEMS, DEAD_LETTERS_KEPT_DAYS
from funnel.allocator import keep_freed_memory
from funnel.crash import crash_hook
from funnel.metrics_server import serve_metrics
from funnel.sealing import sealing
from funnel.settings import BadSettings, Settings
from funnel.shutdown import stop_signals
from funnel.stall import stall_watch
from producer.journal import JournalReader
from producer.publisher import Publisher
from producer.repairs import repair_aiokafka

log = structlog.get_logger("funnel")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumeConfig:
    """Everything a consumer process needs to know.

    Attributes:
        kafka: keyword arguments of every aiokafka client.
        consumer_id: unique among the processes alive.
        seal_every: how often the journal is sealed; None: not by this process.
    """

    database_url: str
    kafka: Mapping[str, Any]
    topics: Topics
    consumer_id: str
    event_source: str
    phone_region: str | None = None
    deduplication: timedelta = timedelta(days=35)
    dead_letters_kept: timedelta = timedelta(days=DEAD_LETTERS_KEPT_DAYS)
    lease: timedelta = timedelta(seconds=10)
    watchdog: timedelta = timedelta(seconds=30)
    batch_records_max: int = 1000
    chunk_items: int = BULK_CHUNK_ITEMS
    operations_retention: timedelta = timedelta(days=30)
    seal_every: timedelta | None = None
    hook: Hook = lambda _: None
    open_span: OpenSpan = untraced


def consume_config(settings: Settings, open_span: OpenSpan) -> ConsumeConfig:
    """The settings that a consumer process uses.

    Raises:
        BadSettings: a crash point that does not exist, or no address of a server.
    """
    for name in ("database_url", "kafka_bootstrap_servers"):
        if not getattr(settings, name):
            raise BadSettings(f"{name.upper()}: is needed")
    try:
        hook = crash_hook(crash_at=settings.crash_at, pause_at=settings.pause_at)
    except ValueError as error:
        raise BadSettings(f"FUNNEL_CRASH_AT, FUNNEL_PAUSE_AT: {error}") from error
    return ConsumeConfig(
        database_url=settings.database_url.get_secret_value(),
        kafka=settings.kafka_options(),
        topics=settings.topics,
        consumer_id=settings.consumer_id,
        event_source=settings.event_source,
        phone_region=settings.phone_region,
        deduplication=timedelta(days=settings.deduplication_days),
        dead_letters_kept=timedelta(days=settings.dead_letter_days),
        lease=timedelta(seconds=settings.lease_seconds),
        watchdog=timedelta(seconds=settings.watchdog_seconds),
        batch_records_max=settings.batch_records_max,
        chunk_items=settings.bulk_chunk_items,
        operations_retention=timedelta(days=settings.operations_retention_days),
        seal_every=timedelta(seconds=settings.seal_seconds) if settings.seal_seconds else None,
        hook=hook,
        open_span=open_span,
    )


async def run(settings: Settings, open_span: OpenSpan) -> None:
    """The process `funnel consume`: until SIGTERM or SIGINT, with its metrics served."""
    config = consume_config(settings, open_span)
    registry = CollectorRegistry()
    _calm_collector()
    keep_freed_memory()
    serve_metrics(registry, host=settings.host, port=settings.metrics_port)
    with stop_signals() as stopping, stall_watch(config.watchdog):
        await run_consumer(config, stopping, registry)


class TopicMissing(Exception):
    """The commands topic is not there: run `funnel topics apply`."""


async def run_consumer(
    config: ConsumeConfig, stopping: asyncio.Event, registry: CollectorRegistry
) -> None:
    """Consume until `stopping` is set, then hand the lanes over.

    Raises:
        OtherTopics: PostgreSQL remembers other topics or another cluster.
        TopicMissing: there is no commands topic.
        StoreAway, KafkaError: PostgreSQL or Kafka does not answer at start.
    """
    assert_fast_kafka()
    tolerate_hostile_batches()
    repair_aiokafka()
    cluster_id, partitions_total = await describe(config.kafka, config.topics)
    async with AsyncExitStack() as opened:
        pool = await open_pool(config.database_url, lease=config.lease, lanes_max=partitions_total)
        opened.push_async_callback(pool.close)
        # Its own: a heartbeat must not wait for lanes that wait.
        leases = await open_pool(
            config.database_url, lease=config.lease, lanes_max=0, name="funnel membership"
        )
        opened.push_async_callback(leases.close)
        membership = Membership(leases, consumer_id=config.consumer_id, lease=config.lease)
        await membership.create_lanes(
            partitions_total=partitions_total,
            commands_topic=config.topics.commands,
            cluster_id=cluster_id,
        )
        metrics = ConsumerMetrics(registry)
        store = LaneStore(pool)
        operations = OperationStore(pool, chunk_items=config.chunk_items)
        parser = CommandParser(phone_region=config.phone_region)
        apply = Apply(
            store,
            BulkWrites(operations, retention=config.operations_retention),
            topics=config.topics,
            deduplication=config.deduplication,
            hook=config.hook,
        )
        partitions = JournalPartitions(store)
        builder = EventBuilder(config.topics, config.event_source)
        journal = JournalReader(pool)
        turns = asyncio.Semaphore(APPLYING_BATCHES_MAX)

        def lane_of(claim: Claim) -> Lane:
            return Lane(
                lane=claim.lane,
                owner_epoch=claim.owner_epoch,
                source=lambda: Source(
                    lane=claim.lane,
                    topics=config.topics,
                    kafka=config.kafka,
                    records_max=config.batch_records_max,
                ),
                decoder=Decoder(lane=claim.lane, partitions_total=partitions_total, parser=parser),
                apply=apply,
                background=Background(
                    store, operations, retention=config.operations_retention, hook=config.hook
                ),
                erasing=Erasing(store, hook=config.hook),
                store=store,
                partitions=partitions,
                outbox=Publisher(
                    lane=claim.lane,
                    owner_epoch=claim.owner_epoch,
                    topics=config.topics,
                    builder=builder,
                    kafka=config.kafka,
                    journal=journal,
                    hook=config.hook,
                    open_span=config.open_span,
                ),
                metrics=metrics.lane(claim.lane),
                turns=turns,
                watchdog=config.watchdog,
                hook=config.hook,
                open_span=config.open_span,
            )

        log.info(
            "consumer started", action="consumer_started", consumer_id=config.consumer_id,
            lanes_total=partitions_total,
        )  # fmt: skip
        await opened.enter_async_context(
            sealing(config.database_url, every=config.seal_every, hook=config.hook)
        )
        await ConsumerService(
            consumer_id=config.consumer_id,
            membership=membership,
            lanes_total=partitions_total,
            lane_of=lane_of,
            metrics=metrics,
            retention=Retention(leases, dead_letters_kept=config.dead_letters_kept),
            lease=config.lease,
        ).run(stopping)
        log.info("consumer stopped", action="consumer_stopped")


def _calm_collector() -> None:
    """Batches are many small tuples, none of them in a cycle: look for cycles seldom.

    Measured: with Python's defaults a third of the time of deciding and encoding went there.
    """
    gc.freeze()
    gc.set_threshold(1_000_000, 50, 1000)


async def describe(kafka: Mapping[str, Any], topics: Topics) -> tuple[str, int]:
    """The cluster's id and the number of partitions of the commands topic.

    Raises:
        TopicMissing: there is no such topic.
        KafkaError: Kafka does not answer.
    """
    admin = AIOKafkaAdminClient(**kafka)
    await admin.start()
    try:
        cluster = await admin.describe_cluster()
        described = await admin.describe_topics([topics.commands])
    finally:
        await admin.close()
    partitions = described[0]["partitions"] if described else []
    if not partitions:
        raise TopicMissing(f"There is no topic {topics.commands}: run `funnel topics apply`.")
    return cluster["cluster_id"], len(partitions)


def assert_fast_kafka() -> None:
    """aiokafka without its C extension is thirty times slower: refuse to start so."""
    if "_crecords" not in aiokafka.record.default_records.DefaultRecordBatchBuilder.__module__:
        raise RuntimeError(
            "aiokafka's C extension is not loaded; install a wheel for this platform"
        )
