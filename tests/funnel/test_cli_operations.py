"""`funnel send bulk --wait` and `funnel operations`, as processes, with a consumer that runs."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from prometheus_client import CollectorRegistry

from contract.topics import Topics
from funnel.consume import ConsumeConfig, run_consumer
from producer.client import CommandClient, OutgoingCommand
from tests.funnel.test_cli_send import Funnel, funnel

__all__ = ["funnel"]


async def test_operations__from_sending_to_retrying(
    funnel: Funnel,
    kafka_options: dict[str, Any],
    topics: Topics,
    database_url: str,
    tmp_path: Path,
) -> None:
    organization, ids = str(uuid4()), [str(uuid4()) for _ in range(5)]
    stopping = asyncio.Event()
    config = ConsumeConfig(
        database_url=database_url,
        kafka=kafka_options,
        topics=topics,
        consumer_id="cli",
        event_source="/tests",
        chunk_items=2,
    )
    consuming = asyncio.create_task(run_consumer(config, stopping, CollectorRegistry()))
    try:
        async with CommandClient(kafka=kafka_options, source="/tests", topics=topics) as client:
            person: Any = {"first_name": "A", "last_name": "B", "email": "a@b.example"}
            for each in ids:
                await client.create(organization, each, candidate=person, actor="me", wait=30)
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
    finally:
        stopping.set()
        await consuming
