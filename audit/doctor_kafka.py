"""The doctor's look at Kafka: the cluster, transactions, retention, and the ends of the commands.

Asks only; nothing is written but the empty state of one transactional id.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import cramjam
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NodeNotReadyError

from audit.diagnosis import Line, fail, ok, span, warn
from audit.stopping import stop_client
from contract.topics import Topics

KAFKA_AWAY = (KafkaError, OSError, TimeoutError, AssertionError)
_UNREADABLE = (
    KafkaError,
    ValueError,
    LookupError,
    EOFError,
    cramjam.DecompressionError,
    zlib.error,
)
"""A record batch that cannot be read: its lane tells of it."""

_ANSWER_SECONDS_MAX = 10.0
_READ_SECONDS_MAX = 3.0
_STOP_SECONDS_MAX = 2.0
_RETENTION_MIN = timedelta(days=1)
"""What waits in a topic must outlast a night's outage."""


class CommandLog(NamedTuple):
    """One partition of the commands topic.

    `waiting_since` is when the next command was written, in seconds since 1970; None where none
    waits, or it cannot be read.
    """

    first: int
    stable_end: int
    end: int
    waiting_since: float | None = None


async def look_at_cluster(
    kafka: Mapping[str, Any], topics: Topics, *, deduplication: timedelta
) -> list[Line]:
    """Brokers, transactions, and how long the topics keep their records.

    Raises:
        KAFKA_AWAY: no answer.
    """
    admin = AIOKafkaAdminClient(**kafka)
    try:
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            await admin.start()
            brokers = (await admin.describe_cluster())["brokers"]
            if not brokers:
                raise NodeNotReadyError("no broker is ready: one that is just back, perhaps")
            present = {each["topic"] for each in await admin.describe_topics(None)}
            wanted = [t for t in (topics.commands, topics.results) if t in present]
            retention = await _settings(admin, ConfigResourceType.TOPIC, wanted)
            broker = str(brokers[0]["node_id"])
            server = (await _settings(admin, ConfigResourceType.BROKER, [broker])).get(broker, {})
    finally:
        await admin.close()
    lines = [ok("kafka", f"{len(brokers)} broker{'s' if len(brokers) > 1 else ''}")]
    lines += [_retention(name, retention[name], topics, deduplication) for name in wanted]
    lines.append(await _transactions(kafka, topics, server, brokers_total=len(brokers)))
    return lines


async def read_command_logs(
    kafka: Mapping[str, Any],
    topics: Topics,
    next_offsets: Mapping[int, int],
    *,
    halted: Collection[int],
) -> dict[int, CommandLog]:
    """The commands of each lane, and how long the next one has waited.

    Of those that are `halted` nothing is read: it may be what halted them.

    Raises:
        KAFKA_AWAY: no answer.
    """
    if not next_offsets:
        return {}
    at = {lane: TopicPartition(topics.commands, lane) for lane in next_offsets}
    partitions = list(at.values())
    async with (
        asyncio.timeout(_ANSWER_SECONDS_MAX + _READ_SECONDS_MAX),
        _consumer(kafka, "read_uncommitted") as everything,
        _consumer(kafka, "read_committed") as committed,
    ):
        firsts = await everything.beginning_offsets(partitions)
        stable = await committed.end_offsets(partitions)
        ends = await everything.end_offsets(partitions)
        waiting = [
            lane for lane, offset in next_offsets.items()
            if firsts[at[lane]] <= offset < stable[at[lane]] and lane not in halted
        ]  # fmt: skip
        since = await _written(committed, {at[lane]: next_offsets[lane] for lane in waiting})
    return {
        lane: CommandLog(firsts[each], stable[each], ends[each], since.get(each))
        for lane, each in at.items()
    }


async def _written(
    consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]
) -> dict[TopicPartition, float]:
    """When the first record at or behind each offset was written."""
    found: dict[TopicPartition, float] = {}
    if not offsets:
        return found
    consumer.assign(list(offsets))
    for at, offset in offsets.items():
        consumer.seek(at, offset)
    deadline = asyncio.get_running_loop().time() + _READ_SECONDS_MAX
    while len(found) < len(offsets) and asyncio.get_running_loop().time() < deadline:
        try:
            polled = await consumer.getmany(timeout_ms=200, max_records=len(offsets))
        except _UNREADABLE:
            return found
        for at, records in polled.items():
            found.setdefault(at, records[0].timestamp / 1000)
            consumer.pause(at)
    return found


def _retention(
    topic: str, settings: Mapping[str, str], topics: Topics, deduplication: timedelta
) -> Line:
    milliseconds = int(settings.get("retention.ms", "-1"))
    kept = None if milliseconds < 0 else timedelta(milliseconds=milliseconds)
    said = f"{topic} keeps records {'for ever' if kept is None else span(kept.total_seconds())}"
    alter = f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config"
    if kept is not None and kept < _RETENTION_MIN:
        return warn(
            "retention", f"{said}: an outage may outlast it",
            f"{alter} retention.ms={int(_RETENTION_MIN.total_seconds() * 7000)}",
        )  # fmt: skip
    if topic == topics.commands and (kept is None or kept > deduplication):
        return warn(
            "retention",
            f"{said}, deduplication reaches back {span(deduplication.total_seconds())}: what is"
            " read again from further back could be applied again, unless its id is a UUIDv7",
            f"{alter} retention.ms={int(deduplication.total_seconds() * 1000)}, or raise"
            " FUNNEL_DEDUPLICATION_DAYS",
        )
    return ok("retention", said)


async def _transactions(
    kafka: Mapping[str, Any], topics: Topics, server: Mapping[str, str], *, brokers_total: int
) -> Line:
    """The coordinator answers, and its own log survives a broker."""
    producer = AIOKafkaProducer(**kafka, transactional_id=f"{topics.results}.doctor")
    try:
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            await producer.start()
    except KAFKA_AWAY as error:
        return fail(
            "transactions of Kafka", f"the coordinator does not answer ({type(error).__name__})",
            "is __transaction_state there and has it leaders? May we use transactional ids?",
            "away",
        )  # fmt: skip
    finally:
        await stop_client(producer, seconds_max=_STOP_SECONDS_MAX)
    replicas = int(server.get("transaction.state.log.replication.factor", "3"))
    isr = int(server.get("transaction.state.log.min.isr", "2"))
    said = f"the coordinator answers; its log has {replicas} replicas, {isr} in sync at least"
    if brokers_total > 1 and (replicas < 3 or isr < 2):
        return warn(
            "transactions of Kafka", said,
            "reassign __transaction_state to 3 replicas; set transaction.state.log.min.isr=2",
        )  # fmt: skip
    return ok("transactions of Kafka", said)


async def _settings(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: Sequence[str]
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    if not names:
        return found
    for answer in await admin.describe_configs([ConfigResource(kind, name) for name in names]):
        for code, _message, _type, name, entries in answer.resources:
            if not code:  # without the right to see them, the defaults are assumed
                found[name] = {entry[0]: entry[1] for entry in entries}
    return {name: found.get(name, {}) for name in names}


@asynccontextmanager
async def _consumer(kafka: Mapping[str, Any], isolation: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **kafka,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation,
        fetch_max_wait_ms=100,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await stop_client(consumer, seconds_max=_STOP_SECONDS_MAX)
