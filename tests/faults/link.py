"""A TCP proxy of ours between the consumers and a server: open, cut, silent, slow or reset.

It looks into nothing. PostgreSQL is reached by a URL that names it; Kafka's clients follow the
address that the broker tells, so the consumers under test take a detour to it (`process`).
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: close() sends RST instead of FIN."""


class Link:
    """One way to a server. Everything that it does to connections it does to all of them."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._delay = 0.0
        self._refusing = False
        self.accepted = 0
        self.port = 0

    async def start(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        self.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, database_url: str) -> str:
        """The same database, by this way."""
        parts = urlsplit(database_url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def heal(self) -> None:
        """Whatever was wrong is over; connections that are still there go on."""
        self._refusing, self._delay = False, 0.0
        self._passing.set()

    def cut(self) -> None:
        """Every connection ends, new ones are closed at once."""
        self._refusing = True
        self.drop()

    def fall_silent(self) -> None:
        """Half-open: connections stay, new ones are accepted, and nothing passes."""
        self._passing.clear()

    def slow_down(self, seconds: float) -> None:
        """Everything that passes is late by so much, each way."""
        self._delay = seconds

    def drop(self, *, reset: bool = False) -> None:
        """End every connection, by RST if `reset`; new ones are welcome."""
        for writer in list(self._writers):
            if reset:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _connected(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(to_client)
        try:
            if not self._refusing:
                await self._join(client, to_client)
        except OSError:
            pass  # either side went away: the other one is told by closing below
        finally:
            self._tasks.discard(task)
            self._writers.discard(to_client)
            to_client.close()

    async def _join(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(*self._target)
        self._writers.add(to_server)
        ways = [
            asyncio.ensure_future(self._pump(client, to_server)),
            asyncio.ensure_future(self._pump(server, to_client)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(to_server)
            to_server.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while received := await reader.read(_CHUNK_BYTES):
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._passing.wait()
            writer.write(received)
            await writer.drain()


@asynccontextmanager
async def link_to(host: str, port: int) -> AsyncIterator[Link]:
    """A link that is closed at the end."""
    link = await Link(host, port).start()
    try:
        yield link
    finally:
        await link.stop()
