"""Writes while Kafka is away: refused at once, and again taken once it is back."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import httpx2

from api.dev_keys import DevKeys
from api.limits import SEND_S_MAX
from funnel.command_sender import KafkaSender
from stack.embedded import EmbeddedStack
from tests.api.asking import (
    TOPICS,
    Token,
    all_candidates_path,
    application,
    candidate_path,
    client_of,
    until,
)
from tests.api.world import PERSON, World
from tests.stalling import kafka_stalled

AT_ONCE_S = 3.0
"""A generous bound of what takes milliseconds, far below any time-out."""


async def timed(asking: Any) -> tuple[httpx2.Response, float]:
    started = time.perf_counter()
    answer = await asking
    return answer, time.perf_counter() - started


def refused(answer: httpx2.Response) -> bool:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "1"
    return answer.status_code == 503 and answer.json()["code"] == "unavailable"


async def test_never_there__is_503_at_once(keys: DevKeys, token: Token) -> None:
    kafka = {"bootstrap_servers": "127.0.0.1:1"}
    sender = KafkaSender(kafka=kafka, topics=TOPICS, source="/tests")
    app = application("postgresql://nobody.invalid/none", keys, sender=sender)
    async with sender.running(), client_of(app, token(scopes=("candidates:write",))) as client:
        answer, seconds = await timed(client.post(all_candidates_path(), json=PERSON))

    assert refused(answer)
    assert seconds < AT_ONCE_S


async def test_broker_that_stalls__is_503_then_at_once_and_back_by_itself(
    world: World,
    writer: httpx2.AsyncClient,
    server_stack: EmbeddedStack,
    kafka_options: dict[str, Any],
) -> None:
    key = {"idempotency-key": str(uuid4())}
    async with kafka_stalled(server_stack, kafka_options):
        first, seconds = await timed(writer.post(all_candidates_path(), json=PERSON, headers=key))
        assert refused(first)
        assert seconds < SEND_S_MAX + AT_ONCE_S
        many = await asyncio.gather(
            *(timed(writer.post(all_candidates_path(), json=PERSON)) for _ in range(20))
        )
        assert all(refused(answer) and seconds < AT_ONCE_S for answer, seconds in many)
        # Reading does not need Kafka.
        assert (await writer.get("/readyz")).status_code == 200

    async with asyncio.timeout(30):
        while world.sender.is_away:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    # The first may have arrived or not: its key makes it one candidate in any case.
    again = await writer.post(
        all_candidates_path(), json=PERSON, headers=key | {"prefer": "wait=30"}
    )
    assert again.status_code == 201


async def test_client_that_leaves__loses_nothing(world: World, writer: httpx2.AsyncClient) -> None:
    chosen = str(uuid4())
    asking = asyncio.create_task(writer.post(all_candidates_path(), json=PERSON | {"id": chosen}))
    await until(lambda: world.app.state.waits.total > 0 or asking.done())

    asking.cancel()

    async with asyncio.timeout(20):
        while (await writer.get(candidate_path(chosen))).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
