"""`PATCH` of single candidates at a steady pace, over HTTP, with everything running.

The API is a process of its own, as in production; the clock of a request runs from its start to
the last byte of its 200.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2

from api.app import BASE_PATH
from api.dev_keys import load_or_create
from bench.service import Latency
from bench.workload import Update
from contract.topics import Topics
from stack.files import free_port

_READY_S_MAX = 60


@asynccontextmanager
async def api_process(
    folder: Path, *, database_url: str, bootstrap_servers: str, topics: Topics, log: Any
) -> AsyncIterator[str]:
    """`funnel serve` without a limit of writes; yields its URL once it is ready."""
    port = free_port(taken=[])
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "FUNNEL_TOPIC_PREFIX": topics.prefix,
        "FUNNEL_DATA_DIR": str(folder),
        "FUNNEL_WRITE_LIMIT": "off",
        "LOG_FORMAT": "json",
    }
    command = "from funnel.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", command, "serve", "--port", str(port),
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(_READY_S_MAX):
            while not await _ready(url):
                if process.returncode is not None:
                    raise RuntimeError(f"the API ended with {process.returncode}")
                await asyncio.sleep(0.1)
        yield url
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def run_patches(
    url: str, folder: Path, *, updates: Sequence[Update], per_second: float
) -> Latency:
    """Each update as one `PATCH` with `If-Match`; all must be 200.

    Args:
        updates: of candidates that nothing else changes meanwhile; the first tenth warms up.
    """
    keys = load_or_create(folder)
    organizations = {update.organization_id for update in updates}
    tokens = {
        each: keys.sign(
            organization_id=each,
            user="bench",
            scopes=("candidates:write",),
            lifetime=timedelta(hours=1),
        )
        for each in organizations
    }
    took: list[float] = []

    async def patch(client: httpx2.AsyncClient, update: Update) -> None:
        began = time.perf_counter()
        answer = await client.patch(
            f"{BASE_PATH}/candidates/{update.candidate_id}",
            json=update.changes,
            headers={
                "authorization": f"Bearer {tokens[update.organization_id]}",
                "if-match": f'"{update.seen_version}"',
            },
        )
        took.append((time.perf_counter() - began) * 1000)
        if answer.status_code != httpx2.codes.OK:
            raise RuntimeError(f"PATCH answered {answer.status_code}: {answer.text}")

    async with httpx2.AsyncClient(base_url=url, timeout=30) as client, asyncio.TaskGroup() as tasks:
        started = time.perf_counter()
        for index, update in enumerate(updates):
            await asyncio.sleep(max(0, started + index / per_second - time.perf_counter()))
            tasks.create_task(patch(client, update))
    took = sorted(took[len(took) // 10 :])
    return Latency(took[len(took) // 2], took[int(len(took) * 0.99)], len(took))


async def _ready(url: str) -> bool:
    try:
        async with httpx2.AsyncClient(base_url=url) as client:
            metrics = (await client.get("/metrics")).text
            return (
                await client.get("/readyz")
            ).is_success and "funnel_http_kafka_away 0.0" in metrics
    except httpx2.TransportError:
        return False
