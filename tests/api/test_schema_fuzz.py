"""The running API against its own document: whatever is asked, no error of ours, and every answer
as the document says. Seeded, so that it asks the same each time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.asking import until
from tests.api.world import ALL_SCOPES, World

EXAMPLES = 5
"""Of each operation."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
SCOPES = (*ALL_SCOPES, "audit:read", "platform:operate")


@pytest.fixture
async def served(world: World) -> AsyncIterator[str]:
    """The shared deployment's API over a real socket."""
    server = uvicorn.Server(uvicorn.Config(world.app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_api__keeps_to_its_document(served: str, world: World) -> None:
    token = world.token(scopes=SCOPES)

    total = await asyncio.to_thread(_ask_everything, served, f"Bearer {token}")

    assert total >= 10 * EXAMPLES


def _ask_everything(url: str, authorization: str) -> int:
    """How many requests were answered as they should be; raises what is not."""
    load_all_checks()
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    found: list[Any] = list(schema.get_all_operations())
    operations = [each.ok() for each in found]
    return sum(_ask(operation, authorization) for operation in operations)


def _ask(operation: Any, authorization: str) -> int:
    answered = 0

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        nonlocal answered
        answer = case.call(headers={"authorization": authorization}, timeout=30)
        case.validate_response(answer, checks=CHECKS)
        answered += 1

    ask()
    return answered
