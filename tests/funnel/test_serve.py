"""`funnel serve` as a process: its end while clients hold streams open."""

import asyncio
import signal
import subprocess
from collections.abc import Callable
from uuid import UUID

import asyncpg
import httpx2

from tests.funnel.processes import Environment, Run, Start, api_url

ORGANIZATION = "00000000-0000-4000-8000-000000000001"
OPERATION = "00000000-0000-4000-8000-0000000000a1"
BASE = "/api/gulf-funnel"


async def running_operation(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """INSERT INTO bulk_operations (organization_id, operation_id, lane, command_id,
               command_source, actor, type, changes, on_conflict, dry_run, status, total, pending,
               created_at, updated_at)
           VALUES ($1, $2, 0, 'c', '/s', 'me', 'candidate.bulk-update.v1', '{}', 'reject', false,
               'running', 1, 1, now(), now())""",
        UUID(ORGANIZATION),
        UUID(OPERATION),
    )
    await connection.close()


async def read_to_the_end(
    client: httpx2.AsyncClient, path: str, begun: Callable[[], None]
) -> tuple[int, bytes]:
    """Status and body of a stream; `begun` is called at its first bytes."""
    body = b""
    async with client.stream("GET", path, headers={"accept": "text/event-stream"}) as answer:
        async for part in answer.aiter_bytes():
            if not body:
                begun()
            body += part
    return answer.status_code, body


async def test_sigterm__ends_open_streams_cleanly_and_then_the_process(
    started: Start, funnel: Run, environment: Environment
) -> None:
    await running_operation(environment["DATABASE_URL"])
    api: subprocess.Popen[str] = started("serve", env=environment)
    url = await asyncio.to_thread(api_url, api)
    token = funnel(
        "token", "--organization", ORGANIZATION, "--user", "me", "--scope", "candidates:read",
        env=environment,
    ).stdout.strip()  # fmt: skip
    paths = [f"{BASE}/changes", f"{BASE}/bulk-operations/{OPERATION}/events"]
    begun = asyncio.Semaphore(0)

    async with httpx2.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60
    ) as client:
        reading = [
            asyncio.create_task(read_to_the_end(client, path, begun.release)) for path in paths
        ]
        for _ in paths:
            await begun.acquire()
        api.send_signal(signal.SIGTERM)
        streams = await asyncio.gather(*reading)  # none breaks off
    said, _ = await asyncio.to_thread(api.communicate, timeout=60)

    assert [(status, body.startswith(b"retry: ")) for status, body in streams] == [(200, True)] * 2
    assert all(body.endswith(b"\n\n") for _, body in streams)
    assert b'"status":"running"' in streams[1][1]
    assert api.returncode == 0
    assert '"action": "api_stopped"' in said
    assert "timeout" not in said  # uvicorn had nothing to cut off
    assert '"level": "error"' not in said
