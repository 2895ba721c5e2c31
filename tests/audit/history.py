"""A real history: commands of every kind, settled by the real consumer on real servers."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID, uuid5

import orjson
from aiokafka import AIOKafkaProducer

from contract.topics import Topics
from domain.identity import home_lane
from tests.conftest import PARTITIONS_TOTAL
from tests.consuming import consuming
from tests.settling import read_all

EVENT_SOURCE = "/test/candidates"
_NAMESPACE = UUID("3b2a0e52-54a1-4d29-9d0a-3f7f3b7f5a01")
TOO_OLD = "01800000-0000-7000-8000-000000000000"
ORGANIZATIONS = [str(uuid5(_NAMESPACE, f"organization {number}")) for number in range(8)]

Sent = tuple[int, bytes | None, list[tuple[str, bytes | None]]]
"""Partition, value, headers."""


def candidate_of(organization: int, number: int) -> str:
    return str(uuid5(_NAMESPACE, f"candidate {organization} {number}"))


ACTORS = ("ann", "ann", 'Ann "\\\tü')
FIRST_NAMES = ('Zoë "\\', "Zoë", "Zoë")
"""Of the three candidates of an organization. JSON escapes some of them."""


def commands() -> list[Sent]:
    """Some of every outcome, on every lane: applied, merged, unchanged, duplicate, rejected."""
    sent: list[Sent] = []
    for organization, organization_id in enumerate(ORGANIZATIONS):
        for number in range(3):
            key = {
                "organization_id": organization_id,
                "candidate_id": candidate_of(organization, number),
                "actor": ACTORS[number],
            }
            create = command(
                "candidate.create.v1",
                key | {"candidate": {
                    "first_name": FIRST_NAMES[number], "last_name": "Ng", "email": "z@EXAMPLE.com",
                    "tags": ['a"b\\', "c,d", "{e}"], "attributes": {"n": [1, 2.5, "ü", None]},
                }},
                id=f"create {organization} {number}",
            )  # fmt: skip
            sent += [create, create]
            for changes, more in (
                ({"status": "interview", "rating": 3}, {}),
                ({"status": "interview"}, {}),
                ({"tags": {"add": ["x"]}}, {"expected_version": 1, "on_conflict": "merge"}),
                ({"rating": None}, {"expected_version": 1}),
                ({"attributes": {"n": None, "m": {"deep": True}}}, {}),
            ):
                sent.append(command("candidate.update.v1", key | {"changes": changes} | more))
        sent.append(command("candidate.update.v1", key | {"changes": {"rating": 1}}, id=TOO_OLD))
        unknown = {"organization_id": organization_id, "actor": "ann"}
        sent.append(command("candidate.update.v1", unknown))
        home = home_lane(organization_id, PARTITIONS_TOTAL)
        sent.append((home, b"no json", [("x-original-offset", b"9"), ("null", None)]))
        sent.append((home, b"", []))
    return sent


BULK_RESULTS = 5


def bulk_commands() -> list[Sent]:
    """One small bulk, one by filter that is worked off in a chunk, one that steers nothing.

    Five results, and five candidates changed.
    """
    about = {"organization_id": ORGANIZATIONS[1], "actor": "ann"}
    ids = [candidate_of(1, number) for number in range(3)]
    strangers = [candidate_of(1, number) for number in (8, 9)]
    inline = {
        "changes": {"rating": 5},
        "candidate_ids": [*ids, *strangers],
        "expected_versions": {ids[0]: 1},
    }
    chosen = {"changes": {"pipeline_stage": "a.b"}, "filter": {"tag": "x"}}
    nothing = {"operation_id": ids[0], "action": "pause"}
    return [
        command("candidate.bulk-update.v1", about | inline),
        command("candidate.bulk-update.v1", about | chosen),
        command("bulk-operation.control.v1", about | nothing),
    ]


def misplaced() -> list[Sent]:
    """Commands that arrive on another lane than their organization's, and are rerouted."""
    return [
        ((partition + 1) % PARTITIONS_TOTAL, value, headers)
        for partition, value, headers in (
            command(
                "candidate.update.v1",
                {
                    "organization_id": organization_id,
                    "candidate_id": candidate_of(organization, 0),
                    "actor": "bob",
                    "changes": {"source": "fair"},
                },
            )
            for organization, organization_id in enumerate(ORGANIZATIONS[:3])
        )
    ]


_ids = iter(range(1_000_000))


def command(command_type: str, data: dict[str, Any], *, id: str | None = None) -> Sent:  # noqa: A002
    headers: list[tuple[str, bytes | None]] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", (id or f"command {next(_ids)}").encode()),
        ("ce_source", b"/test"),
        ("ce_type", command_type.encode()),
        ("content-type", b"application/json"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    home = home_lane(data["organization_id"], PARTITIONS_TOTAL)
    return home, orjson.dumps(data), headers


def consumer(
    database_url: str, kafka: Mapping[str, Any], topics: Topics
) -> AbstractAsyncContextManager[None]:
    """Runs until the context ends, then hands its lanes over."""
    return consuming(
        database_url=database_url,
        kafka=kafka,
        topics=topics,
        consumer_id="history",
        event_source=EVENT_SOURCE,
    )


async def send(kafka: Mapping[str, Any], topics: Topics, sent: list[Sent]) -> None:
    producer = AIOKafkaProducer(**kafka)
    await producer.start()
    try:
        for partition, value, headers in sent:
            await producer.send(topics.commands, value, partition=partition, headers=headers)
    finally:
        await producer.stop()


async def settle(
    database_url: str, kafka: Mapping[str, Any], topics: Topics, sent: list[Sent], *, results: int
) -> None:
    """Send, and consume until so many results are in the topic."""
    await send(kafka, topics, sent)
    async with consumer(database_url, kafka, topics):
        await read_all(kafka, topics.results, total=results)
