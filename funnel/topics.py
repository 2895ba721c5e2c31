"""Topics and database together: the number of partitions that PostgreSQL remembers is the truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg

from contract.topics import Topics
from funnel.servers import connection_to
from producer.admin import TopicsMismatch, apply_topics, check_topics


async def apply(
    kafka_options: Mapping[str, Any], database_url: str, topics: Topics, *, partitions_total: int
) -> list[str]:
    """Create the topics that are missing; return their names.

    Raises:
        TopicsMismatch: PostgreSQL or Kafka has them with another number of partitions.
    """
    problems = await _remembered_otherwise(database_url, topics, partitions_total=partitions_total)
    if problems:
        raise TopicsMismatch(problems)
    return await apply_topics(kafka_options, topics, partitions_total=partitions_total)


async def check(
    kafka_options: Mapping[str, Any], database_url: str, topics: Topics, *, partitions_total: int
) -> list[str]:
    """One line for each thing that is not as it must be."""
    return [
        *await _remembered_otherwise(database_url, topics, partitions_total=partitions_total),
        *await check_topics(kafka_options, topics, partitions_total=partitions_total),
    ]


async def _remembered_otherwise(
    database_url: str, topics: Topics, *, partitions_total: int
) -> list[str]:
    statement = Path(__file__).parent / "sql" / "remembered_topics.sql"
    try:
        async with connection_to(database_url) as connection:
            rows = await connection.fetch(statement.read_text())
    except asyncpg.UndefinedTableError:
        return []  # not migrated yet, so it remembers nothing
    return [
        f"the database belongs to {row['commands_topic']} with {row['partitions_total']} "
        f"partitions, FUNNEL_TOPIC_PREFIX and FUNNEL_PARTITIONS say {topics.commands} with "
        f"{partitions_total}; neither can change: set them back, or use another database"
        for row in rows
        if (row["commands_topic"], row["partitions_total"]) != (topics.commands, partitions_total)
    ]
