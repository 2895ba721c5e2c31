"""`funnel doctor`: everything that can be looked at, one line each, worst code out.

A look that cannot be taken is a line too; the others go on. Nothing is changed.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg

from audit.database import AuditRefused, open_audit
from audit.diagnosis import Diagnosis, Line, fail, ok
from audit.doctor_kafka import KAFKA_AWAY, CommandLog, look_at_cluster, read_command_logs
from audit.doctor_lanes import judge_lanes
from audit.doctor_postgres import (
    MIGRATE,
    LaneStanding,
    look_at_data,
    look_at_server,
    read_lanes,
)
from contract.topics import Topics

_DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
_DATABASE_REFUSES = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is examined, None where nobody knows where it is.

    `topic_problems` says what is wrong with the topics, a line each.
    """

    database_url: str | None
    kafka: Mapping[str, Any] | None
    topics: Topics
    partitions_total: int
    deduplication: timedelta
    schema_versions: tuple[str, ...]
    cluster: Callable[[], Awaitable[tuple[str, int]]]
    topic_problems: Callable[[], Awaitable[list[str]]]


async def examine(patient: Patient, diagnosis: Diagnosis) -> None:
    """Look at PostgreSQL, then at Kafka, then at the lanes between them."""
    lanes = await _look_at_postgres(patient, diagnosis)
    found = await _look_at_kafka(patient, diagnosis, lanes or [])
    if lanes is not None:
        cluster_id, total, logs = found
        diagnosis.add(
            judge_lanes(lanes, logs, cluster_id=cluster_id, partitions_total=total, now=time.time())
        )


async def _look_at_postgres(patient: Patient, diagnosis: Diagnosis) -> list[LaneStanding] | None:
    if patient.database_url is None:
        return None
    try:
        async with open_audit(patient.database_url) as connection:
            diagnosis.add(await look_at_server(connection, schema_versions=patient.schema_versions))
            diagnosis.add(await look_at_data(connection))
            return await read_lanes(connection)
    except AuditRefused as error:
        diagnosis.add([fail("schema", str(error), MIGRATE, "configuration")])
    except asyncpg.UndefinedColumnError:
        return None  # the line of the schema has said so
    except _DATABASE_REFUSES as error:
        diagnosis.add([
            fail("postgresql", f"lets nobody in ({type(error).__name__})",
                 "look at DATABASE_URL: user, password, database", "configuration")
        ])  # fmt: skip
    except _DATABASE_AWAY as error:
        diagnosis.add([
            fail("postgresql", f"does not answer ({type(error).__name__})",
                 "is it up, and is DATABASE_URL right? Consumers wait, and go on by themselves",
                 "away")
        ])  # fmt: skip
    return None


async def _look_at_kafka(
    patient: Patient, diagnosis: Diagnosis, lanes: list[LaneStanding]
) -> tuple[str | None, int, dict[int, CommandLog]]:
    kafka = patient.kafka
    if kafka is None:
        return None, 0, {}
    try:
        lines = await look_at_cluster(kafka, patient.topics, deduplication=patient.deduplication)
        problems = await patient.topic_problems()
        diagnosis.add([*lines, *_topics(problems)])
        if any("missing" in each for each in problems):
            return None, 0, {}
        cluster_id, total = await patient.cluster()
        offsets = {lane.lane: lane.next_offset for lane in lanes if lane.lane < total}
        halted = {lane.lane for lane in lanes if lane.halted is not None}
        logs = await read_command_logs(kafka, patient.topics, offsets, halted=halted)
    except KAFKA_AWAY as error:
        diagnosis.add([
            fail("kafka", f"does not answer ({type(error).__name__})",
                 "is it up, and is KAFKA_BOOTSTRAP_SERVERS right? Lanes wait, and go on by"
                 " themselves", "away")
        ])  # fmt: skip
        return None, 0, {}
    return cluster_id, total, logs


def _topics(problems: list[str]) -> list[Line]:
    if not problems:
        return [ok("topics", "as they must be")]
    lines = []
    for each in problems:
        said, _, remedy = each.partition(": ")
        lines.append(fail("topics", said, remedy or "funnel topics check", "configuration"))
    return lines
