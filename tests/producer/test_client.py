"""The client of upstream services, on a real broker."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from contract.envelope import Envelope, read_envelope
from contract.events import EventBuilder
from contract.record import SourceRecord, pack
from contract.topics import COMMAND_MESSAGE_BYTES_MAX, Topics
from domain.commands import CommandParser, InvalidCommand
from domain.identity import home_lane
from producer.client import (
    CommandClient,
    CommandNotSent,
    CommandTooLarge,
    OutgoingCommand,
    ResultTimeout,
    TopicMissing,
)
from stack.embedded import EmbeddedStack
from tests.settling import Settler, applied, journal_row, read_all, write_rows
from tests.stalling import kafka_stalled

Kafka = dict[str, Any]
ORGANIZATIONS = [str(UUID(int=number, version=4)) for number in range(1, 9)]
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def client(kafka_options: Kafka, topics: Topics) -> AsyncIterator[CommandClient]:
    async with CommandClient(kafka=kafka_options, source="/ats", topics=topics) as client:
        yield client


def update(number: int = 0, *, rating: int = 3, **envelope: Any) -> OutgoingCommand:
    return OutgoingCommand.update(
        organization_id=ORGANIZATIONS[number % len(ORGANIZATIONS)],
        candidate_id=UUID(int=number, version=4),
        changes={"rating": rating},
        actor="recruiter",
        **envelope,
    )


async def envelopes(kafka: Kafka, topics: Topics, total: int) -> list[Envelope]:
    records = await read_all(kafka, topics.commands, total=total)
    for record in records:
        assert record.partition == home_lane(record.key.decode(), 4)
    return [
        read_envelope(SourceRecord(r.key, r.value, tuple(r.headers), r.timestamp)) for r in records
    ]


async def test_send__home_lane_and_binary_cloudevent(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    command = update(3, id="order-1", source="/crm", traceparent=TRACEPARENT)
    sent = await client.send(command)
    [envelope] = await envelopes(kafka_options, topics, 1)
    assert sent == ("order-1", home_lane(ORGANIZATIONS[3], 4), 0)
    assert envelope == Envelope("order-1", "/crm", "candidate.update.v1", command.data, TRACEPARENT)


async def test_send__id_is_a_uuid7_and_source_the_clients(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    await client.send(update())
    [envelope] = await envelopes(kafka_options, topics, 1)
    assert UUID(envelope.command_id).version == 7
    assert envelope.source == "/ats"


async def test_send__upper_case_organization_goes_to_its_home_lane(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    organization_id = "ABCDEF00-0000-4000-8000-00000000000A"
    command = replace(update(), data=dict(update().data) | {"organization_id": organization_id})
    await client.send(command)
    [envelope] = await envelopes(kafka_options, topics, 1)
    assert envelope.data["organization_id"] == organization_id


@pytest.mark.parametrize("organization_id", [None, "acme", 7])
async def test_send__without_a_usable_organization(
    client: CommandClient, organization_id: object
) -> None:
    command = OutgoingCommand(type="candidate.update.v1", data={"organization_id": organization_id})
    with pytest.raises(InvalidCommand, match=r"missing|malformed"):
        await client.send(command)


@pytest.mark.parametrize("envelope", [{"id": ""}, {"source": "s" * 201}, {"id": "a\0b"}])
async def test_send__unusable_identity(client: CommandClient, envelope: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 to 200 characters"):
        await client.send(update(**envelope))


async def test_send__parser_refuses_before_anything_is_sent(
    kafka_options: Kafka, topics: Topics
) -> None:
    async with CommandClient(
        kafka=kafka_options, source="/ats", topics=topics, parser=CommandParser()
    ) as client:
        with pytest.raises(InvalidCommand, match="out_of_range"):
            await client.send(update(rating=9))
        with pytest.raises(ValueError, match="not known"):
            await client.send(replace(update(), type="candidate.praise.v1"))
        sent = await client.send(update(rating=5))
    assert sent.offset == 0


async def test_send__large_commands(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    base = update()
    largest = COMMAND_MESSAGE_BYTES_MAX - 4096
    await client.send(replace(base, data={**base.data, "padding": "x" * largest}))
    await client.load([base, replace(base, data={**base.data, "padding": "y" * largest}), base])
    with pytest.raises(CommandTooLarge):
        await client.send(replace(base, data={**base.data, "padding": "x" * (largest + 8192)}))
    assert len(await envelopes(kafka_options, topics, 4)) == 4


async def test_send__many_at_once(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    sent = await asyncio.gather(*(client.send(update(number)) for number in range(500)))
    received = await envelopes(kafka_options, topics, 500)
    assert {position.command_id for position in sent} == {e.command_id for e in received}
    assert len({(position.partition, position.offset) for position in sent}) == 500


async def test_send__waits_for_its_result(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    async with Settler(kafka_options, topics):
        result = await client.send(update(1, id="a"), wait=10)
    assert (result.outcome, result.version, result.command_id) == ("applied", 1, "a")
    assert not result.refused


async def test_update__rejection_is_a_result(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    details = {"current_version": 9, "fields": ["rating"]}

    def conflict(envelope: Envelope) -> dict[str, Any]:
        assert envelope.data["on_conflict"] == "merge"
        return {"outcome": "rejected", "reason": "version_conflict", "details": details}

    async with Settler(kafka_options, topics, conflict):
        result = await client.update(
            ORGANIZATIONS[0],
            uuid4(),
            changes={"rating": 1},
            actor="recruiter",
            expected_version=3,
            on_conflict="merge",
        )
    assert result.refused
    assert result.reason == "version_conflict"
    assert result.data["fields"] == ["rating"]


async def test_create__duplicate_of_a_rejection_counts_as_refused(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    def duplicate(_envelope: Envelope) -> dict[str, Any]:
        original = {"outcome": "rejected", "reason": "already_exists"}
        return {"outcome": "duplicate", "details": {"original": original}}

    async with Settler(kafka_options, topics, duplicate):
        result = await client.create(
            ORGANIZATIONS[0],
            uuid4(),
            candidate={"first_name": "Ada", "last_name": "L", "email": "ada@example.com"},
            actor="recruiter",
        )
    assert (result.outcome, result.refused) == ("duplicate", True)


async def test_send__times_out_and_the_same_command_asks_again(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    with pytest.raises(ResultTimeout, match="order-7"):
        await client.send(update(id="order-7"), wait=0.01)
    async with Settler(kafka_options, topics):
        result = await client.send(update(id="order-7"), wait=10)
    assert result.outcome == "applied"


async def test_send__aborted_results_do_not_count(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    command = update(id="a")
    envelope = Envelope("a", "/ats", command.type, command.data)
    lane = home_lane(ORGANIZATIONS[0], 4)
    waiting = asyncio.create_task(client.send(command, wait=10))
    await read_all(kafka_options, topics.commands, total=1)
    async with AIOKafkaProducer(**kafka_options, transactional_id=topics.results) as producer:
        await producer.begin_transaction()
        [aborted] = EventBuilder(topics).records(
            journal_row(envelope, lane=lane, sequence=1, outcome="unchanged", version=1)
        )
        await producer.send_and_wait(
            aborted.topic, aborted.value, partition=lane, headers=aborted.headers
        )
        await producer.abort_transaction()
        row = journal_row(envelope, lane=lane, sequence=1, outcome="applied", version=2)
        await write_rows(producer, EventBuilder(topics), [row])
    assert (await waiting).outcome == "applied"


async def test_send__dead_lettered_by_the_database(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    def refuse(_envelope: Envelope) -> dict[str, Any]:
        details = {"error_code": "apply_failed", "error_detail": "22003"}
        forward = pack(SourceRecord(None, b"", (), 0))
        return {"kind": "dead_letter", "details": details, "forward": forward}

    async with Settler(kafka_options, topics, refuse):
        result = await client.send(update(), wait=10)
    assert (result.outcome, result.reason) == ("dead_lettered", "apply_failed")
    assert result.refused


async def test_send_many__results_in_the_order_of_the_commands(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    total = 2600
    async with Settler(kafka_options, topics):
        commands = (update(number, id=f"c{number}") for number in range(total))
        results = [result async for result in client.send_many(commands, wait=30)]
    assert [result.command_id for result in results] == [f"c{n}" for n in range(total)]


async def test_send_many__the_same_command_twice_has_two_results(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    seen: Counter[str] = Counter()

    def once(envelope: Envelope) -> dict[str, Any]:
        seen[envelope.command_id] += 1
        return {"outcome": "applied" if seen[envelope.command_id] == 1 else "duplicate"}

    async with Settler(kafka_options, topics, once):
        commands = [update(id="a"), update(id="b"), update(id="a")]
        outcomes = [result.outcome async for result in client.send_many(commands, wait=10)]
    assert outcomes == ["applied", "applied", "duplicate"]


async def test_send_many__yields_what_came_before_it_times_out(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    def all_but_one(envelope: Envelope) -> dict[str, Any]:
        return {} if envelope.command_id == "c2" else applied(envelope)

    async with Settler(kafka_options, topics, all_but_one):
        commands = [update(number, id=f"c{number}") for number in range(4)]
        async with aclosing(client.send_many(commands, wait=2)) as results:
            assert (await anext(results)).command_id == "c0"
            assert (await anext(results)).command_id == "c1"
            with pytest.raises(ResultTimeout, match="c2"):
                await anext(results)


def of_the_client(task: asyncio.Task[Any]) -> bool:
    """Not aiokafka's, not another test's consumer on the same loop."""
    code = getattr(task.get_coro(), "cr_code", None)
    own = ("client", "delivery", "pipeline", "results")
    return code is not None and code.co_filename.endswith(tuple(f"producer/{n}.py" for n in own))


async def test_send_many__left_early_leaves_nothing_behind(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    async with Settler(kafka_options, topics):
        commands = (update(number) for number in range(5000))
        async with aclosing(client.send_many(commands, wait=10)) as results:
            await anext(results)
        result = await client.send(update(1), wait=10)
    await client.close()
    assert result.outcome == "applied"
    assert not [task for task in asyncio.all_tasks() if of_the_client(task)]


async def test_load__everything_once_and_each_organization_in_order(
    client: CommandClient, kafka_options: Kafka, topics: Topics
) -> None:
    total = 25_000
    reports: list[int] = []
    sent = await client.load(
        (update(number, id=str(number)) for number in range(total)), report=reports.append
    )
    received = await envelopes(kafka_options, topics, total)
    assert sent == reports[-1] == total
    assert reports == sorted(reports)
    by_organization: dict[str, list[int]] = {}
    for envelope in received:
        organization_id = envelope.data["organization_id"]
        by_organization.setdefault(organization_id, []).append(int(envelope.command_id))
    assert sum(map(len, by_organization.values())) == total
    for numbers in by_organization.values():
        assert numbers == sorted(numbers)


async def test_connect__topic_missing(kafka_options: Kafka) -> None:
    client = CommandClient(kafka=kafka_options, source="/ats", topics=Topics("absent."))
    with pytest.raises(TopicMissing, match=r"absent\.candidates\.commands"):
        await client.connect()
    await client.close()


async def test_send__kafka_away() -> None:
    kafka = {"bootstrap_servers": "127.0.0.1:1"}
    client = CommandClient(kafka=kafka, source="/ats")
    with pytest.raises(CommandNotSent, match="cannot be reached"):
        await client.send(update())
    await client.close()


async def test_send__broker_stalls_and_comes_back(
    server_stack: EmbeddedStack, kafka_options: Kafka, topics: Topics
) -> None:
    async with CommandClient(
        kafka=kafka_options, source="/ats", topics=topics, delivery_seconds=2
    ) as client:
        await client.send(update(id="a"))
        async with kafka_stalled(server_stack, kafka_options):
            with pytest.raises(CommandNotSent, match="did not acknowledge"):
                await client.send(update(id="b"))
            with pytest.raises(CommandNotSent):
                await client.load([update(id="c")])
        async with Settler(kafka_options, topics):
            result = await client.send(update(id="d"), wait=20)
    assert (result.command_id, result.outcome) == ("d", "applied")


async def test_send__results_unreadable_from_the_start(
    client: CommandClient, server_stack: EmbeddedStack, kafka_options: Kafka
) -> None:
    await client.connect()
    async with kafka_stalled(server_stack, kafka_options):
        with pytest.raises(CommandNotSent, match="nothing was sent"):
            await client.send(update(), wait=10)
