"""`funnel send bulk --wait` and `funnel operations`, as processes, with a consumer that runs."""

import asyncio
import os
import pty
import re
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from contract.topics import Topics
from domain.identity import Identity, operation_id_of
from producer.client import CommandClient, OutgoingCommand
from tests.consuming import consuming
from tests.funnel.processes import all_of, text_of
from tests.funnel.test_cli_send import Funnel, funnel

__all__ = ["funnel"]

PERSON: Any = {"first_name": "A", "last_name": "B", "email": "a@b.example"}


def deployed(database_url: str, kafka: dict[str, Any], topics: Topics) -> dict[str, Any]:
    """What a consumer of a test needs to know."""
    where = {"database_url": database_url, "kafka": kafka, "topics": topics}
    return where | {"consumer_id": "cli", "event_source": "/tests"}


async def test_operations__from_sending_to_retrying(
    funnel: Funnel,
    kafka_options: dict[str, Any],
    topics: Topics,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    organization, ids = str(uuid4()), [str(uuid4()) for _ in range(5)]
    deployment = deployed(database_url, kafka_options, topics)
    async with consuming(**deployment, chunk_items=2):
        async with CommandClient(kafka=kafka_options, source="/tests", topics=topics) as client:
            for each in ids:
                await client.create(organization, each, candidate=PERSON, actor="me", wait=30)
            small = await client.bulk_update(
                organization, changes={"rating": 1}, actor="me", candidate_ids=ids, wait=30
            )
            assert (small.outcome, small.data["counts"]["applied"]) == ("applied", 5)
            told = [
                each
                async for each in client.follow(
                    OutgoingCommand.bulk_update(
                        organization_id=organization,
                        changes={"rating": 2},
                        actor="me",
                        filter={"rating_min": 1},
                        expected_versions={ids[0]: 1},
                    ),
                    wait=30,
                )
            ]
            assert len(told) == 1 + 3 + 1
            assert told[-1]["status"] == "completed"  # type: ignore[index]

        own = {"DATABASE_URL": database_url}
        about = ("--organization", organization)
        (tmp_path / "ids").write_text("\n".join([*ids, str(uuid4())]))
        listed = await funnel(
            *("send", "bulk", *about, "--ids-file", str(tmp_path / "ids"), "source=fair", "--wait")
        )
        assert listed.code == 0
        assert "6 candidates: 5 applied, 1 not_found" in listed.out
        sent = await funnel(
            *("send", "bulk", *about, "--filter", '{"source": "fair"}', "rating=3"),
            *("--wait", "--json"),
        )
        accepted, completed = sent.json
        assert (sent.code, accepted["outcome"]) == (0, "accepted")
        assert completed["counts"]["applied"] == 5

        shown = (await funnel("operations", "list", *about, "--json", **own)).json
        assert len(shown) == 4
        assert shown[0]["operation_id"] == completed["operation_id"]
        by_conflict = next(each for each in shown if each["counts"]["conflict"])
        operation = by_conflict["operation_id"]
        [one] = (await funnel("operations", "show", operation, *about, "--json", **own)).json
        assert [item["candidate_id"] for item in one["failed"]] == [ids[0]]
        assert (await funnel("operations", "show", str(uuid4()), *about, **own)).code == 65

        closed = await funnel("operations", "cancel", operation, *about)
        assert closed.code == 65
        assert "operation_closed" in closed.out
        retried = await funnel("operations", "retry-failed", operation, *about, "--json")
        assert retried.code == 0, retried.err
        assert orjson.loads(retried.out.splitlines()[-1])["counts"]["applied"] == 1
        unknown = await funnel("operations", "pause", str(uuid4()), *about)
        assert (unknown.code, "operation_closed" in unknown.out) == (65, True)

        # Of another organization; matching nobody; matching too many.
        stranger = ("send", "bulk", "--organization", str(uuid4()), "rating=1", "--wait")
        foreign = await funnel(*stranger, "--candidate", ids[0])
        assert (foreign.code, "1 candidates: 1 not_found" in foreign.out) == (0, True)
        nobody = await funnel(*stranger, "--filter", '{"status": "new"}')
        assert (nobody.code, "0 candidates: none" in nobody.out) == (0, True)
        for module in ("consumer.bulk", "consumer.operation_store"):
            monkeypatch.setattr(f"{module}.BULK_FILTER_ITEMS_MAX", 4)
        many = await funnel(
            *("send", "bulk", *about, "--filter", '{"status": "new"}', "rating=1", "--wait")
        )
        assert (many.code, "too_many" in many.out) == (65, True)


@pytest.mark.parametrize("chosen", [("--ids-file", "ids"), ("--filter", '{"status": "new"}')])
async def test_send_bulk__on_a_terminal_shows_a_bar_with_rate_and_what_is_left(
    funnel: Funnel,
    kafka_options: dict[str, Any],
    topics: Topics,
    database_url: str,
    tmp_path: Path,
    chosen: tuple[str, str],
) -> None:
    organization, ids = str(uuid4()), [str(uuid4()) for _ in range(1100)]
    (tmp_path / "ids").write_text("\n".join(ids))
    creations = (
        OutgoingCommand.create(
            organization_id=organization, candidate_id=each, candidate=PERSON, actor="me"
        )
        for each in ids
    )
    async with CommandClient(kafka=kafka_options, source="/tests", topics=topics) as client:
        await client.load(creations)
    terminal, its_end = pty.openpty()

    def slowly(step: str) -> None:
        if step == "after_chunk_read":
            time.sleep(0.1)  # so long that the bar, drawn ten times a second, shows each chunk

    deployment = deployed(database_url, kafka_options, topics)
    async with consuming(**deployment, chunk_items=100, hook=slowly):
        shown = asyncio.create_task(asyncio.to_thread(all_of, terminal))
        ended = await funnel(
            *("send", "bulk", "--organization", organization, *chosen, "rating=3", "--wait"),
            stderr=its_end,
            TERM="xterm",
            COLUMNS="100",
        )
        os.close(its_end)
        text = text_of(await shown)
    assert ended.code == 0, text
    assert "1,100 candidates: 1,100 applied" in ended.out
    assert re.search(r"candidates .*━.* [1-9]00/1100 +[\d,]+/s 0:00:0\d", text), text


async def test_operations__that_go_on_are_steered(
    funnel: Funnel, kafka_options: dict[str, Any], topics: Topics, database_url: str
) -> None:
    organization, strangers = str(uuid4()), [str(uuid4()) for _ in range(1100)]
    about = ("--organization", organization)
    bulk = OutgoingCommand.bulk_update(
        organization_id=organization, changes={"rating": 1}, actor="me", candidate_ids=strangers
    )
    operation = operation_id_of(Identity(organization, "/tests", bulk.id).key)

    def steering(action: Any) -> OutgoingCommand:
        return OutgoingCommand.control(
            organization_id=organization, operation_id=operation, action=action, actor="me"
        )

    # In one batch, so it is paused before its first chunk.
    async with CommandClient(kafka=kafka_options, source="/tests", topics=topics) as client:
        await client.load([bulk, steering("pause")])

    def slowly(step: str) -> None:
        if step == "after_chunk_read":
            time.sleep(0.02)  # 550 times: it goes on while the commands below start

    async def steer(action: str) -> str:
        ended = await funnel("operations", action, operation, *about)
        assert ended.code == 0, ended.err
        return ended.out.partition(" ")[0]

    deployment = deployed(database_url, kafka_options, topics)
    async with consuming(**deployment, chunk_items=2, hook=slowly):
        assert await steer("pause") == "unchanged"
        listed = await funnel("operations", "list", "--status", "paused", DATABASE_URL=database_url)
        assert f" paused operation {operation} 1,100 candidates: 1,100 pending " in listed.out
        assert await steer("resume") == "applied"
        assert await steer("pause") == "applied"
        assert await steer("cancel") == "applied"
        async with CommandClient(kafka=kafka_options, source="/tests", topics=topics) as client:
            closed = await client.send(steering("resume"), wait=30)
        shown = await funnel("operations", "show", operation, *about, DATABASE_URL=database_url)
    assert closed.reason == "operation_closed"
    assert re.search(r"^status +cancelled$", shown.out, re.MULTILINE)
    assert re.search(r'"not_found":[1-9]', shown.out)
    assert re.search(r'"cancelled":[1-9]', shown.out)
    assert re.search(rf"^not_found +{strangers[0]} not_found$", shown.out, re.MULTILINE)
