"""Topics: created as the contract says, by many at once, and checked setting by setting."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contract.topics import Topics
from funnel.topics import apply, check
from producer.admin import (
    TopicsMismatch,
    TopicState,
    apply_topics,
    check_topics,
    delete_topics,
    replica_problems,
)

KafkaOptions = dict[str, object]


@pytest.fixture
async def absent(kafka_options: KafkaOptions) -> AsyncIterator[Topics]:
    """Names of topics that are not there, and will not be afterwards."""
    fresh = Topics(prefix=f"t{uuid.uuid4().hex[:12]}.")
    yield fresh
    await delete_topics(kafka_options, fresh)


async def create_by_hand(kafka_options: KafkaOptions, name: str, **config: str) -> None:
    admin = AIOKafkaAdminClient(**kafka_options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 4, 1, topic_configs=config)])
    finally:
        await admin.close()


async def test_apply_topics__eight_at_once_create_each_topic_once(
    kafka_options: KafkaOptions, absent: Topics
) -> None:
    created = await asyncio.gather(
        *(apply_topics(kafka_options, absent, partitions_total=4) for _ in range(8))
    )

    assert sorted(itertools.chain(*created)) == sorted(spec.name for spec in absent.specs())
    assert await check_topics(kafka_options, absent, partitions_total=4) == []


async def test_apply_topics__other_partition_count_is_refused(
    kafka_options: KafkaOptions, topics: Topics
) -> None:
    with pytest.raises(TopicsMismatch, match="has 4 partitions, FUNNEL_PARTITIONS says 8"):
        await apply_topics(kafka_options, topics, partitions_total=8)


async def test_check_topics__names_what_is_missing(
    kafka_options: KafkaOptions, absent: Topics
) -> None:
    problems = await check_topics(kafka_options, absent, partitions_total=4)

    assert len(problems) == 4
    assert problems[0] == f"{absent.commands} is missing: run `funnel topics apply`"


async def test_check_topics__names_a_wrong_setting_and_its_remedy(
    kafka_options: KafkaOptions, absent: Topics
) -> None:
    wrong = {"cleanup.policy": "compact", "max.message.bytes": "1000"}
    await create_by_hand(kafka_options, absent.results, **wrong)
    await apply_topics(kafka_options, absent, partitions_total=4)

    problems = await check_topics(kafka_options, absent, partitions_total=4)

    assert len(problems) == 3
    assert all(problem.startswith(f"{absent.results} has ") for problem in problems)
    assert any(problem.endswith("--add-config cleanup.policy=delete") for problem in problems)
    assert any(problem.endswith("--add-config max.message.bytes=5242880") for problem in problems)
    assert any("message.timestamp.after.max.ms=3600000, 92" in problem for problem in problems)


async def test_check_topics__a_larger_limit_than_ours_will_do(
    kafka_options: KafkaOptions, absent: Topics
) -> None:
    larger = {"cleanup.policy": "delete", "max.message.bytes": "6000000"}
    await create_by_hand(kafka_options, absent.commands, **larger)
    await apply_topics(kafka_options, absent, partitions_total=4)

    assert await check_topics(kafka_options, absent, partitions_total=4) == []


def test_replica_problems__names_topics_with_too_few() -> None:
    states = {
        "good": TopicState(has_leaders=True, replicas=(3, 3)),
        "thin": TopicState(has_leaders=True, replicas=(3, 2)),
    }

    assert [problem.split()[0] for problem in replica_problems(states)] == ["thin"]


@pytest.mark.parametrize("partitions_total", [4, 8])
async def test_apply__what_postgresql_remembers_is_the_truth(
    kafka_options: KafkaOptions, topics: Topics, database_url: str, partitions_total: int
) -> None:
    await remember(database_url, "other.candidates.commands.v1", partitions_total=8)
    expected = f"belongs to other.candidates.commands.v1 with 8 .* {partitions_total}; neither"

    with pytest.raises(TopicsMismatch, match=expected):
        await apply(kafka_options, database_url, topics, partitions_total=partitions_total)
    problems = await check(kafka_options, database_url, topics, partitions_total=4)
    assert len(problems) == 1


async def test_apply__database_that_is_not_migrated_remembers_nothing(
    kafka_options: KafkaOptions, topics: Topics, empty_database_url: str, database_url: str
) -> None:
    connection = await asyncpg.connect(database_url, timeout=10)
    await connection.execute(f"CREATE DATABASE {empty_database_url.rpartition('/')[2]}")
    await connection.close(timeout=5)

    assert await apply(kafka_options, empty_database_url, topics, partitions_total=4) == []


async def remember(database_url: str, commands_topic: str, *, partitions_total: int) -> None:
    connection = await asyncpg.connect(database_url, timeout=10)
    await connection.execute(
        "INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id) "
        "VALUES (0, $1, $2, 'any')",
        partitions_total,
        commands_topic,
    )
    await connection.close(timeout=5)
