"""Reads over HTTP: `GET` of a candidate beside a bare route, and the thousandth page of a list
beside the first.

The client speaks HTTP/1.1 over a few sockets and does little else, so that the server is what is
measured. Both servers are processes of their own and take turns.
"""

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import asyncpg
import orjson

from api.app import BASE_PATH
from api.dev_keys import load_or_create
from bench.http_writes import api_process
from bench.workload import Workload
from contract.topics import Topics
from stack.files import free_port

CONNECTIONS_TOTAL = 32
ROUNDS = 3
KEYS_TOTAL = 5000
PAGES_TOTAL = 1000
PAGE_LOOKS = 100
_READY_S_MAX = 30
_LANE = """
INSERT INTO lanes (lane, partitions_total, commands_topic, cluster_id) VALUES (0, 1, 'bench', '')
"""


class Reads(NamedTuple):
    """Requests a second, and the time of one page of 50 in milliseconds (medians)."""

    get_per_second: float
    bare_per_second: float
    first_page_ms: float
    last_page_ms: float


async def run_reads(
    *,
    database_url: str,
    bootstrap_servers: str,
    topics: Topics,
    workload: Workload,
    folder: Path,
    log: Any,
    seconds: float,
) -> Reads:
    """With the API and a bare route on the same candidates, all of one organization."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(_LANE)
    finally:
        await connection.close()
    organization_id = workload.organization_id(0)
    ids = [workload.candidate_id(n) for n in range(KEYS_TOTAL)]
    async with api_process(
        folder, database_url=database_url, bootstrap_servers=bootstrap_servers, topics=topics,
        log=log,
    ) as url:  # fmt: skip
        authorization = load_or_create(folder).sign(
            organization_id=organization_id,
            user="bench",
            scopes=("candidates:read",),
            lifetime=timedelta(hours=1),
        )
        api = Target(url, f"authorization: Bearer {authorization}\r\n")
        paths = [f"{BASE_PATH}/candidates/{each}" for each in ids]
        async with api.connected() as one:
            size = len(await one.get(paths[0]))
            first, last = await _pages(one)
        async with bare_process(database_url, size=size, log=log) as bare_url:
            bare = Target(bare_url, "")
            bare_paths = [f"/{organization_id}/{each}" for each in ids]
            rates: dict[Target, list[float]] = {api: [], bare: []}
            for _ in range(ROUNDS):
                rates[bare].append(await _rate(bare, bare_paths, seconds))
                rates[api].append(await _rate(api, paths, seconds))
    return Reads(statistics.median(rates[api]), statistics.median(rates[bare]), first, last)


def read_rows(reads: Reads) -> list[tuple[str, str, str]]:
    """Their rows in the table of figures."""
    return [
        (
            "GET of a candidate; beside a bare route with the same SELECT",
            f"{reads.get_per_second:,.0f} /s",
            f"{reads.get_per_second / reads.bare_per_second:.2f} × {reads.bare_per_second:,.0f} /s",
        ),
        (
            f"page {PAGES_TOTAL} of a list; beside page 1",
            f"{reads.last_page_ms:.1f} ms",
            f"{reads.last_page_ms / reads.first_page_ms:.2f} × {reads.first_page_ms:.1f} ms",
        ),
    ]


@asynccontextmanager
async def bare_process(database_url: str, *, size: int, log: Any) -> AsyncIterator[str]:
    """The bare route; yields its URL once it answers."""
    port = free_port(taken=[])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare", database_url, str(port), str(size),
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_READY_S_MAX):
            while not await _listens(port):
                if process.returncode is not None:
                    raise RuntimeError(f"the bare route ended with {process.returncode}")
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


class Target(NamedTuple):
    """A server, and the header lines that it is asked with."""

    url: str
    header: str

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Connection"]:
        """A connection that is kept alive."""
        parts = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            yield Connection(reader, writer, f" HTTP/1.1\r\nhost: bench\r\n{self.header}\r\n")
        finally:
            writer.close()
            await writer.wait_closed()


class Connection(NamedTuple):
    """Asks one thing after the other."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    after_path: str

    async def get(self, path: str) -> bytes:
        """The body of a 200."""
        self.writer.write(f"GET {path}{self.after_path}".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await self.reader.readexactly(int(length))


async def _rate(target: Target, paths: Sequence[str], seconds: float) -> float:
    """Answers a second over `CONNECTIONS_TOTAL` connections."""
    turns: Iterator[str] = itertools.cycle(paths)
    ends_at = time.perf_counter() + seconds

    async def ask() -> int:
        total = 0
        async with target.connected() as connection:
            while time.perf_counter() < ends_at:
                await connection.get(next(turns))
                total += 1
        return total

    began = time.perf_counter()
    totals = await asyncio.gather(*(ask() for _ in range(CONNECTIONS_TOTAL)))
    return sum(totals) / (time.perf_counter() - began)


async def _pages(connection: Connection) -> tuple[float, float]:
    """Milliseconds of the first and of the last page of a walk, looked at in turns."""
    first = last = f"{BASE_PATH}/candidates"
    for _ in range(PAGES_TOTAL - 1):
        cursor = orjson.loads(await connection.get(last))["next_cursor"]
        last = f"{first}?{urlencode({'cursor': cursor})}"
    took: dict[str, list[float]] = {first: [], last: []}
    for _ in range(PAGE_LOOKS):
        for path, times in took.items():
            began = time.perf_counter()
            await connection.get(path)
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(took[first]), statistics.median(took[last])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
