"""One real history for the session; each test gets a clone of its database to tamper with."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from audit.findings import Findings
from audit.outputs import Output
from audit.verify import verify
from contract.topics import Topics
from producer.admin import apply_topics, delete_topics
from stack.servers import Servers
from tests.audit.history import (
    BULK_RESULTS,
    EVENT_SOURCE,
    bulk_commands,
    commands,
    misplaced,
    settle,
)
from tests.conftest import PARTITIONS_TOTAL, url_of

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Verify = Callable[..., Awaitable[Findings]]


@dataclass(frozen=True)
class History:
    """Where the history is; nobody is connected to its database."""

    database: str
    topics: Topics
    results_total: int
    commands_total: int
    rows_total: int
    changes_total: int


@pytest.fixture(scope="session")
async def history(
    servers: Servers, template_database: str, kafka_options: dict[str, Any]
) -> AsyncIterator[History]:
    database, topics = f"history_{uuid.uuid4().hex[:12]}", Topics(f"h{uuid.uuid4().hex[:12]}.")
    await _execute(servers, f"CREATE DATABASE {database} TEMPLATE {template_database}")
    await apply_topics(kafka_options, topics, partitions_total=PARTITIONS_TOTAL)
    sent, in_bulk, rerouted = commands(), bulk_commands(), misplaced()
    results_total = len(sent) + BULK_RESULTS + 2 * len(rerouted)
    all_sent = sent + in_bulk + rerouted
    await settle(url_of(servers, database), kafka_options, topics, all_sent, results=results_total)
    connection = await asyncpg.connect(url_of(servers, database), timeout=10)
    rows = await connection.fetchval("SELECT count(*) FROM journal")
    changes = await connection.fetchval("SELECT count(change) FROM journal")
    await connection.close(timeout=5)
    commands_total = len(all_sent) + len(rerouted)
    yield History(database, topics, results_total, commands_total, rows, changes)
    await delete_topics(kafka_options, topics)
    await _execute(servers, f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
async def clone_url(servers: Servers, history: History) -> AsyncIterator[str]:
    """A database with the history, of this test alone."""
    name = f"clone_{uuid.uuid4().hex[:12]}"
    await _execute(servers, f"CREATE DATABASE {name} TEMPLATE {history.database}")
    yield url_of(servers, name)
    await _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def clone(clone_url: str) -> AsyncIterator[Connection]:
    """As superuser, who may tamper."""
    connection = await asyncpg.connect(clone_url, timeout=10)
    yield connection
    await connection.close(timeout=5)


@pytest.fixture
def verify_clone(clone_url: str, kafka_options: dict[str, Any]) -> Verify:
    """Runs the verification; with `topics`, of these too."""

    async def run(
        topics: Topics | None = None,
        dead_letters_kept: timedelta = timedelta(days=90),
        **options: Any,
    ) -> Findings:
        output = None
        if topics is not None:
            output = Output(
                kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE,
                dead_letters_kept=dead_letters_kept,
            )  # fmt: skip
        silent: dict[str, Any] = {"report": lambda _done, _total: None}
        return await verify(
            clone_url, deduplication=timedelta(days=35), output=output, **silent | options
        )

    return run


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(url_of(servers, "postgres"), timeout=10)
    try:
        await connection.execute(statement, timeout=60)
    finally:
        await connection.close(timeout=5)
