"""Creates the topics and checks them (CONTRACT.md 1).

`apply_topics` only ever creates: what an operator has set on an existing topic stays, and
`check_topics` says what is wrong with it. Another partition count is never healed, because the
lane of an organization follows from it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from contract.topics import Topics, TopicSpec

TOPIC_ALREADY_EXISTS = 36
"""Error code of the Kafka protocol; somebody else applied at the same moment."""

REPLICAS_TOTAL = 3
DURABLE_CONFIG = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
"""What a cluster of several brokers needs so that an acknowledged record survives one of them."""

READY_S_MAX = 30.0
"""Until every partition of a new topic has a leader: under a second unless the cluster is busy."""

READY_POLL_S = 0.05


class TopicsMismatch(Exception):
    """The topics are not what they must be; says how, and the remedy, of the first."""

    def __init__(self, problems: list[str]) -> None:
        more = f" ({len(problems) - 1} more: `funnel topics check`)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class TopicsNotReady(Exception):
    """Partitions without a leader after `READY_S_MAX` seconds: {names}."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"no leader yet for partitions of {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the cluster tells of one topic; leaders and replicas by partition."""

    has_leaders: bool
    replicas: tuple[int, ...]

    @property
    def partitions_total(self) -> int:
        return len(self.replicas)


async def apply_topics(
    kafka_options: Mapping[str, Any], topics: Topics, *, partitions_total: int
) -> list[str]:
    """Create the topics that are missing and wait until all can be written.

    Safe to run from many places at once.

    Args:
        kafka_options: Keyword arguments of an aiokafka client: where and how to connect.
        topics: The names.
        partitions_total: Of each of the four topics.

    Returns:
        The names of the topics that this call created.

    Raises:
        TopicsMismatch: a topic exists with another number of partitions.
        TopicsNotReady: a partition had no leader in time.
        aiokafka.errors.KafkaError: no connection, or the cluster refused.
    """
    async with _admin(kafka_options) as admin:
        existing = await _states(admin, topics)
        _assert_partitions(existing, partitions_total=partitions_total)
        brokers_total = len((await admin.describe_cluster())["brokers"])
        missing = [
            _new_topic(spec, partitions_total=partitions_total, brokers_total=brokers_total)
            for spec in topics.specs()
            if spec.name not in existing
        ]
        created = await _create(admin, missing) if missing else []
        await _wait_ready(admin, topics, partitions_total=partitions_total)
        return created


async def check_topics(
    kafka_options: Mapping[str, Any], topics: Topics, *, partitions_total: int
) -> list[str]:
    """Compare the topics with what they must be; one line for each problem, none if all is well.

    Raises:
        aiokafka.errors.KafkaError: no connection, or the cluster refused.
    """
    async with _admin(kafka_options) as admin:
        states = await _states(admin, topics)
        brokers_total = len((await admin.describe_cluster())["brokers"])
        problems = [f"{each.name} is missing: run `funnel topics apply`" for each in topics.specs()
                    if each.name not in states]  # fmt: skip
        problems += _partition_problems(states, partitions_total=partitions_total)
        if brokers_total > 1:
            problems += replica_problems(states)
        present = [spec for spec in topics.specs() if spec.name in states]
        wanted = {spec.name: _wanted_config(spec, brokers_total=brokers_total) for spec in present}
        found = await _configs(admin, wanted)
        return problems + _config_problems(wanted=wanted, found=found)


async def delete_topics(kafka_options: Mapping[str, Any], topics: Topics) -> None:
    """Delete the topics with all they hold; those that are not there are no error."""
    async with _admin(kafka_options) as admin:
        if names := list(await _states(admin, topics)):
            await admin.delete_topics(names)


def _new_topic(spec: TopicSpec, *, partitions_total: int, brokers_total: int) -> NewTopic:
    return NewTopic(
        name=spec.name,
        num_partitions=partitions_total,
        replication_factor=min(REPLICAS_TOTAL, brokers_total),
        topic_configs=_wanted_config(spec, brokers_total=brokers_total),
    )


def _wanted_config(spec: TopicSpec, *, brokers_total: int) -> dict[str, str]:
    return spec.config | (DURABLE_CONFIG if brokers_total > 1 else {})


async def _create(admin: AIOKafkaAdminClient, missing: list[NewTopic]) -> list[str]:
    answer = await admin.create_topics(missing)
    created: list[str] = []
    for name, code, message in answer.topic_errors:
        if code not in (0, TOPIC_ALREADY_EXISTS):
            raise for_code(code)(f"{name} cannot be created: {message}")
        if code == 0:
            created.append(name)
    return created


async def _wait_ready(admin: AIOKafkaAdminClient, topics: Topics, *, partitions_total: int) -> None:
    deadline = time.monotonic() + READY_S_MAX
    while True:
        states = await _states(admin, topics)
        _assert_partitions(states, partitions_total=partitions_total)
        waiting = [spec.name for spec in topics.specs()
                   if spec.name not in states or not states[spec.name].has_leaders]  # fmt: skip
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise TopicsNotReady(waiting)
        await asyncio.sleep(READY_POLL_S)


async def _states(admin: AIOKafkaAdminClient, topics: Topics) -> dict[str, TopicState]:
    """The topics of ours that are there. Asks for all: asking by name may create them."""
    names = {spec.name for spec in topics.specs()}
    return {
        each["topic"]: TopicState(
            has_leaders=all(partition["leader"] >= 0 for partition in each["partitions"]),
            replicas=tuple(len(partition["replicas"]) for partition in each["partitions"]),
        )
        for each in await admin.describe_topics(None)
        if each["topic"] in names and each["partitions"]
    }


async def _configs(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """The values in force of just the settings that are wanted, by topic."""
    if not wanted:
        return {}
    answers = await admin.describe_configs(
        [
            ConfigResource(ConfigResourceType.TOPIC, name, configs=dict(config))
            for name, config in wanted.items()
        ]
    )
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, message, _type, name, entries in answer.resources:
            if code:
                raise for_code(code)(f"settings of {name} cannot be read: {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _assert_partitions(states: Mapping[str, TopicState], *, partitions_total: int) -> None:
    if problems := _partition_problems(states, partitions_total=partitions_total):
        raise TopicsMismatch(problems)


def _partition_problems(states: Mapping[str, TopicState], *, partitions_total: int) -> list[str]:
    return [
        f"{name} has {state.partitions_total} partitions, FUNNEL_PARTITIONS says "
        f"{partitions_total}: set it to {state.partitions_total}, or use another "
        "FUNNEL_TOPIC_PREFIX; the number is fixed for the life of the topics"
        for name, state in states.items()
        if state.partitions_total != partitions_total
    ]


def replica_problems(states: Mapping[str, TopicState]) -> list[str]:
    """What is wrong with the replicas on a cluster of several brokers."""
    return [
        f"{name} has partitions with {min(state.replicas)} replicas, {REPLICAS_TOTAL} are needed: "
        "kafka-reassign-partitions.sh"
        for name, state in states.items()
        if min(state.replicas) < REPLICAS_TOTAL
    ]


def _config_problems(
    *, wanted: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]]
) -> list[str]:
    return [
        f"{topic} has {setting}={found[topic].get(setting)}, {value} is needed: kafka-configs.sh "
        f"--alter --entity-type topics --entity-name {topic} --add-config {setting}={value}"
        for topic, config in wanted.items()
        for setting, value in config.items()
        if not _suffices(found[topic].get(setting, ""), value)
    ]


def _suffices(found: str, wanted: str) -> bool:
    """Limits and durations may be larger than wanted; words must be the same."""
    if found.isdecimal() and wanted.isdecimal():
        return int(found) >= int(wanted)
    return found == wanted


@asynccontextmanager
async def _admin(kafka_options: Mapping[str, Any]) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()
