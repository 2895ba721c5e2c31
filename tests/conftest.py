"""Servers for the tests: one stack a session, a fresh database and fresh topics for each test.

FUNNEL_TEST_STACK says which: `embedded` (default), `containers`, or `external` with DATABASE_URL
and KAFKA_BOOTSTRAP_SERVERS. Only `containers` may skip. Tests that ask for none start none.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest

from contract.topics import Topics
from migrations.runner import migrate_up
from producer.admin import apply_topics, delete_topics
from stack.containers import ContainerStack, unavailable
from stack.embedded import EmbeddedStack
from stack.external import ExternalStack
from stack.servers import Servers

PARTITIONS_TOTAL = 4
LOGS = Path("test-logs")

WORKERS_MAX = 4
WORKER_GIB = 2
"""What one worker's two pairs of servers and its consumers take while faults are tested."""

INTERRUPTED_S_MAX = 30.0
"""A controlled shutdown of Kafka may take half of it."""

OWN_FOLDER = pytest.StashKey[str]()

OwnStack = EmbeddedStack | ContainerStack
"""Servers that a test may kill and freeze."""
Stack = OwnStack | ExternalStack

# How long an example takes is the business of the machine, which tests share with one another.
hypothesis.settings.register_profile(
    "tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests wait half of their time, and as memory allows."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    return max(1, min((os.cpu_count() or 1) + 1, WORKERS_MAX, memory // WORKER_GIB))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Temp folders of this run alone: where root runs the tests, PostgreSQL has another user, and
    each run of pytest closes the folder that runs share to others, those that are at work too."""
    if config.option.basetemp is None:
        config.stash[OWN_FOLDER] = config.option.basetemp = tempfile.mkdtemp(prefix="funnel-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """They stay if a test failed."""
    folder, session = config.stash.get(OWN_FOLDER, None), config.pluginmanager.getplugin("session")
    if folder is not None and not getattr(session, "testsfailed", 0):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After Ctrl-C workers are given the time to stop their servers before they are ended."""
    distributed = session.config.pluginmanager.getplugin("dsession")
    for node in getattr(distributed, "_active_nodes", ()):
        with suppress(OSError, EOFError, node.channel.RemoteError):
            node.channel.waitclose(INTERRUPTED_S_MAX)


@pytest.fixture(scope="session")
def server_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The servers themselves, not started: `servers` does that."""
    chosen = os.environ.get("FUNNEL_TEST_STACK", "embedded")
    # Short: a path below it may be a socket's, which has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="funnel-"))
    stack = _stack(chosen, folder)
    try:
        yield stack
    finally:
        stack.stop()
        if request.session.testsfailed and (folder / "logs").exists():
            worker = os.environ.get("PYTEST_XDIST_WORKER", "")
            shutil.copytree(folder / "logs", LOGS / worker, dirs_exist_ok=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def servers(server_stack: Stack) -> Servers:
    """Where PostgreSQL (as superuser) and Kafka answer."""
    return server_stack.start()


@pytest.fixture(scope="session")
async def template_database(servers: Servers) -> AsyncIterator[str]:
    """The name of a migrated database that nobody is connected to."""
    name = f"template_{uuid.uuid4().hex[:12]}"
    await migrate_up(url_of(servers, name), report=lambda _line: None)
    yield name
    await _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(servers: Servers, template_database: str) -> AsyncIterator[str]:
    """A migrated database of this test alone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _execute(servers, f"CREATE DATABASE {name} TEMPLATE {template_database}")
    yield url_of(servers, name)
    await _execute(servers, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_database_url(servers: Servers) -> AsyncIterator[str]:
    """Where a database of this test alone would be; it is not there yet."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield url_of(servers, name)
    await _execute(servers, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def kafka_options(servers: Servers) -> dict[str, object]:
    """Keyword arguments of every aiokafka client."""
    return {"bootstrap_servers": servers.kafka_bootstrap_servers}


@pytest.fixture
async def topics(kafka_options: dict[str, object]) -> AsyncIterator[Topics]:
    """Topics of this test alone, with `PARTITIONS_TOTAL` partitions each."""
    fresh = Topics(prefix=f"t{uuid.uuid4().hex[:12]}.")
    await apply_topics(kafka_options, fresh, partitions_total=PARTITIONS_TOTAL)
    yield fresh
    await delete_topics(kafka_options, fresh)


def url_of(servers: Servers, database: str) -> str:
    """The URL of `database`, as superuser."""
    return urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{database}"))


def _stack(chosen: str, folder: Path) -> Stack:
    match chosen:
        case "embedded":
            return EmbeddedStack(folder, durable=False)
        case "containers":
            if (reason := unavailable()) is not None:
                shutil.rmtree(folder)
                pytest.skip(f"FUNNEL_TEST_STACK=containers: {reason}")
            return ContainerStack()
        case "external":
            return ExternalStack(os.environ)
    raise pytest.UsageError(f"FUNNEL_TEST_STACK={chosen}: embedded, containers or external")


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(url_of(servers, "postgres"), timeout=10)
    try:
        await connection.execute(statement, timeout=60)
    finally:
        await connection.close(timeout=5)
