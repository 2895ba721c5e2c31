"""The embedded servers, for real, in a temporary folder."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import stack as stack_package
from stack import EmbeddedStack, Servers, StackError
from stack.background import _children, _state
from stack.files import remembered_ports
from stack.kafka import KafkaServer, answers
from stack.postgres import PostgresServer, postgres_programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[EmbeddedStack]:
    stack = EmbeddedStack(folder, durable=False)
    try:
        yield stack
    finally:
        stack.stop()


@pytest.fixture
async def servers(stack: EmbeddedStack) -> Servers:
    return await asyncio.to_thread(stack.start)


async def test_start__gives_postgresql_18_with_its_settings(servers: Servers) -> None:
    settings = await _settings(servers, "server_version_num", "jit", "synchronous_commit")
    assert settings["server_version_num"].startswith("18")
    assert (settings["jit"], settings["synchronous_commit"]) == ("off", "on")
    letters = await _fetch_value(
        servers, "SELECT string_agg(x, '' ORDER BY x) FROM unnest('{a,B,ä,Z,b}'::text[]) x"
    )
    assert letters == "BZabä"


async def test_start__gives_kafka_with_transactions(servers: Servers) -> None:
    await _create_topic(servers, "transactions")
    producer = AIOKafkaProducer(
        bootstrap_servers=servers.kafka_bootstrap_servers, transactional_id="lane"
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait("transactions", b"aborted", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait("transactions", b"committed", partition=0)
    finally:
        await producer.stop()
    assert await _first_value(servers, "transactions") == b"committed"


async def test_start__takes_a_record_of_five_mebibytes(servers: Servers) -> None:
    size = 5 * 1024 * 1024
    await _create_topic(servers, "large", settings={"max.message.bytes": str(size + 1000)})
    producer = AIOKafkaProducer(
        bootstrap_servers=servers.kafka_bootstrap_servers, max_request_size=size + 1000
    )
    await producer.start()
    try:
        await producer.send_and_wait("large", b"x" * size, partition=0)
    finally:
        await producer.stop()
    assert len(await _first_value(servers, "large")) == size


async def test_start__finds_the_servers_that_run_already(
    stack: EmbeddedStack, servers: Servers, folder: Path
) -> None:
    second = EmbeddedStack(folder, durable=False)
    assert await asyncio.to_thread(second.start) == servers
    assert second.status() == stack.status()


async def test_restart__keeps_data_ports_and_password(
    stack: EmbeddedStack, servers: Servers
) -> None:
    await _execute(servers, "CREATE TABLE kept AS SELECT 42 AS answer")
    await _create_topic(servers, "kept")
    await asyncio.to_thread(stack.stop)
    assert await asyncio.to_thread(stack.start) == servers
    assert await _fetch_value(servers, "SELECT answer FROM kept") == 42
    assert "kept" in await _topics(servers)


async def test_kill__loses_nothing_committed(stack: EmbeddedStack, servers: Servers) -> None:
    await _execute(servers, "CREATE TABLE survivor AS SELECT 1 AS one")
    await _create_topic(servers, "survivor")
    connection = await asyncpg.connect(servers.database_url)
    for server in (stack.postgres, stack.kafka):
        await asyncio.to_thread(server.kill)
    assert [status.running for status in stack.status()] == [False, False]
    with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
        await connection.fetchval("SELECT 1")
    assert await asyncio.to_thread(stack.start) == servers
    assert await _fetch_value(servers, "SELECT one FROM survivor") == 1
    assert "survivor" in await _topics(servers)


@pytest.fixture(params=[["true"], ["sleep", "60"]], ids=["zombie", "reused pid"])
def other(request: pytest.FixtureRequest) -> Iterator[int]:
    """The pid of a process that has nothing to do with PostgreSQL."""
    with subprocess.Popen(request.param) as process:
        yield process.pid
        process.kill()


async def test_start__after_a_kill_whose_pid_seems_to_live(
    stack: EmbeddedStack, servers: Servers, folder: Path, other: int
) -> None:
    """As in a container whose first process reaps nobody."""
    lock_file = folder / "postgres" / "data" / "postmaster.pid"
    _, *rest = lock_file.read_text().splitlines(keepends=True)
    await asyncio.to_thread(stack.postgres.kill)
    lock_file.write_text("".join([f"{other}\n", *rest]))
    lock_file.chmod(0o666)
    assert await asyncio.to_thread(stack.start) == servers
    assert await _fetch_value(servers, "SELECT 1") == 1


async def test_pause__leaves_connections_open_until_resumed(
    stack: EmbeddedStack, servers: Servers
) -> None:
    connection = await asyncpg.connect(servers.database_url)
    kafka_port = int(servers.kafka_bootstrap_servers.split(":")[1])
    stack.postgres.pause()
    stack.kafka.pause()
    answer = asyncio.ensure_future(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([answer], timeout=0.3)
    assert not done
    assert not await asyncio.to_thread(answers, kafka_port)
    stack.postgres.resume()
    stack.kafka.resume()
    assert await asyncio.wait_for(answer, timeout=10) == 7
    await connection.close()
    await _create_topic(servers, "after-pause")
    assert "after-pause" in await _topics(servers)


async def test_stop__leaves_no_process_even_when_paused(
    stack: EmbeddedStack, servers: Servers
) -> None:
    family = [pid for status in stack.status() for pid in _family(status.pid or 0)]
    assert len(family) > 5
    stack.postgres.pause()
    await asyncio.to_thread(stack.stop)
    await asyncio.to_thread(stack.stop)
    assert [status.running for status in stack.status()] == [False, False]
    assert {_state(pid) for pid in family} <= {"", "Z"}
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(servers.database_url)


async def test_start__moves_when_its_port_is_taken(stack: EmbeddedStack, servers: Servers) -> None:
    await asyncio.to_thread(stack.postgres.stop)
    with socket.create_server(("127.0.0.1", stack.postgres.status().port or 0)):
        moved = await asyncio.to_thread(stack.start)
    assert moved.database_url != servers.database_url
    assert await _fetch_value(moved, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["postgres", "kafka"])
async def test_start__chooses_again_when_its_port_is_taken_before_it_listens(
    stack: EmbeddedStack, servers: Servers, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    server = stack.postgres if name == "postgres" else stack.kafka
    await asyncio.to_thread(server.stop)
    takers: list[socket.socket] = []

    def taken_at_once(path: Path, total: int) -> tuple[int, ...]:
        ports = remembered_ports(path, total)
        if not takers:
            takers.append(socket.create_server(("127.0.0.1", ports[-1])))
        return ports

    monkeypatch.setattr(f"stack.{name}.remembered_ports", taken_at_once)
    try:
        moved = await asyncio.to_thread(stack.start)
        taken = [taker.getsockname()[1] for taker in takers]
        assert len(taken) == 1
        ports = server._folder / "ports"
        assert str(taken[0]) not in ports.read_text().split()
    finally:
        for taker in takers:
            taker.close()
    assert await _fetch_value(moved, "SELECT 1") == 1
    await _create_topic(moved, f"taken-{name}")


async def test_start__does_not_take_another_broker_for_its_own(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the port that was chosen, and answers there."""
    other = int(servers.kafka_bootstrap_servers.rpartition(":")[2])
    chosen: list[int] = []

    def as_the_others(path: Path, total: int) -> tuple[int, ...]:
        ports = remembered_ports(path, total)
        if not chosen:
            chosen.append(other)
            ports = other, *ports[1:]
            path.write_text(" ".join(map(str, ports)))
        return ports

    monkeypatch.setattr("stack.kafka.remembered_ports", as_the_others)
    told: list[str] = []
    kafka = KafkaServer(tmp_path, report=told.append, heap_mib=256)
    try:
        assert await asyncio.to_thread(kafka.start) != servers.kafka_bootstrap_servers
    finally:
        await asyncio.to_thread(kafka.stop)
    assert [line for line in told if "another port" in line]


@pytest.fixture
def unlucky_programs(tmp_path: Path) -> Path:
    """PostgreSQL's, of which initdb fails the first time."""
    programs, real, luck = tmp_path / "programs", postgres_programs(), tmp_path / "luck"
    programs.mkdir()
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)
    (programs / "initdb").write_text(
        f"#!/bin/sh\nif mkdir {luck}; then echo 'FATAL: out of luck' >&2; exit 1; fi\n"
        f'exec {real}/initdb "$@"\n'
    )
    (programs / "postgres").write_text(f'#!/bin/sh\nexec {real}/postgres "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return programs


async def test_start__makes_the_cluster_again_after_one_failure(
    tmp_path: Path, unlucky_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine under load kills initdb half-way."""
    monkeypatch.setattr("stack.postgres.postgres_programs", lambda: unlucky_programs)
    told: list[str] = []
    server = PostgresServer(tmp_path / "data", report=told.append, durable=False)
    try:
        url = await asyncio.to_thread(server.start)
        assert await _fetch_value(Servers(url, ""), "SELECT 1") == 1
    finally:
        await asyncio.to_thread(server.stop)
    assert "initdb failed: FATAL: out of luck; trying once more" in told


async def test_start__heals_what_an_interrupted_start_left(tmp_path: Path) -> None:
    for name in ("postgres", "kafka"):
        (tmp_path / f"{name}.new" / "data").mkdir(parents=True)
        (tmp_path / f"{name}.new" / "data" / "half").write_text("done")
        (tmp_path / name).mkdir()
        # A pid that lives, but is not a server: the number was given to somebody else.
        (tmp_path / name / "pid").write_text(str(os.getpid()))
    stack = EmbeddedStack(tmp_path, durable=False)
    try:
        servers = await asyncio.to_thread(stack.start)
        assert await _fetch_value(servers, "SELECT 1") == 1
        assert await _topics(servers) == set()
    finally:
        await asyncio.to_thread(stack.stop)
    assert not (tmp_path / "postgres.new").exists()
    assert not (tmp_path / "kafka.new").exists()


def test_start__says_in_one_line_what_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"^\S*/file/data: Not a directory$"):
        EmbeddedStack(tmp_path / "file" / "data").start()


def test_start__says_how_much_disk_space_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.embedded.DISK_BYTES_MIN", 2**60)
    free = r"no disk space: \d+ MiB free in \S+, 1099511627776 needed"
    with pytest.raises(StackError, match=f"^{free}$"):
        EmbeddedStack(tmp_path / "data").start()
    assert list((tmp_path / "data").iterdir()) == []


def test_start__names_the_remedy_where_the_packages_are_missing(tmp_path: Path) -> None:
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import stack
try:
    stack.EmbeddedStack(Path(sys.argv[2])).start()
except stack.StackError as error:
    print(error)
"""
    root = Path(stack_package.__file__).parent.parent
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(root), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert "uv sync --extra embedded" in answer.stdout
    assert answer.stdout.count("\n") == 1


def _family(pid: int) -> list[int]:
    return [pid, *_children(pid)]


async def _fetch_value(servers: Servers, statement: str) -> object:
    connection = await asyncpg.connect(servers.database_url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def _settings(servers: Servers, *names: str) -> dict[str, str]:
    return {name: str(await _fetch_value(servers, f"SHOW {name}")) for name in names}


async def _execute(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _create_topic(
    servers: Servers, name: str, *, settings: dict[str, str] | None = None
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=settings or {})])
    finally:
        await admin.close()


async def _topics(servers: Servers) -> set[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.kafka_bootstrap_servers)
    await admin.start()
    try:
        return {name for name in await admin.list_topics() if not name.startswith("__")}
    finally:
        await admin.close()


async def _first_value(servers: Servers, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers.kafka_bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=6 * 1024 * 1024,
    )
    await consumer.start()
    try:
        record = await asyncio.wait_for(consumer.getone(), timeout=20)
    finally:
        await consumer.stop()
    return record.value or b""
