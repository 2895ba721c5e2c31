"""Baseline (a), the usual way: one command, one transaction, awaited sends, offset commit.

What a careful team writes first: deduplication and version check included, batching not.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.workload import Update, command_headers
from contract.topics import Topics


async def run_usual(
    *, database_url: str, kafka: Mapping[str, Any], topics: Topics, updates: Sequence[Update]
) -> float:
    """Seconds from the first poll to the last offset commit; one partition."""
    at = TopicPartition(topics.commands, 0)
    producer = AIOKafkaProducer(**kafka, enable_idempotence=True)
    consumer = AIOKafkaConsumer(
        **kafka, group_id=topics.group + "-usual", enable_auto_commit=False,
        auto_offset_reset="earliest",
    )  # fmt: skip
    connection = await asyncpg.connect(database_url, server_settings={"jit": "off"})
    await producer.start()
    await consumer.start()
    consumer.assign([at])
    try:
        await connection.execute(_TABLES)
        for update in updates:
            await producer.send(
                topics.commands, update.data(), key=update.organization_id.encode(), partition=0,
                headers=list(command_headers()),
            )  # fmt: skip
        await producer.flush()
        started = time.perf_counter()
        for _ in updates:
            record = await consumer.getone()
            result, change = await _apply(connection, record)
            await producer.send_and_wait(topics.results, result, key=record.key, partition=0)
            await producer.send_and_wait(topics.changes, change, key=record.key, partition=0)
            await consumer.commit({at: record.offset + 1})
        return time.perf_counter() - started
    finally:
        await consumer.stop()
        await producer.stop()
        await connection.close()


async def _apply(connection: asyncpg.Connection, record: Any) -> tuple[bytes, bytes]:
    data = orjson.loads(record.value)
    command_id = dict(record.headers)["ce_id"].decode()
    names = [name for name in data["changes"] if name in ("rating", "status", "pipeline_stage")]
    sets = ", ".join(f"{name} = ${index}" for index, name in enumerate(names, 4))
    async with connection.transaction():
        fresh = await connection.fetchval(
            "INSERT INTO bench_seen VALUES ($1) ON CONFLICT DO NOTHING RETURNING true", command_id
        )
        assert fresh
        row = await connection.fetchrow(
            f"UPDATE candidates SET version = version + 1, updated_at = now(), {sets}"
            " WHERE organization_id = $1 AND candidate_id = $2 AND version = $3 RETURNING *",
            data["organization_id"],
            data["candidate_id"],
            data["expected_version"],
            *[data["changes"][name] for name in names],
        )
        assert row is not None
        change = orjson.dumps(dict(row) | {"command_id": command_id}, default=str)
        await connection.execute(
            "INSERT INTO bench_journal (command_id, change) VALUES ($1, $2)",
            command_id, change.decode(),
        )  # fmt: skip
    return orjson.dumps({"command_id": command_id, "outcome": "applied"}), change


_TABLES = """
CREATE TABLE IF NOT EXISTS bench_seen (command_id text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS bench_journal (id bigserial PRIMARY KEY, command_id text, change json,
                            recorded_at timestamptz NOT NULL DEFAULT now());
"""
