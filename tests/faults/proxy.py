"""A TCP proxy before PostgreSQL that loses COMMITs of some transactions, or the answers to them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Loss = Literal["request", "answer"]

# A Query message: its type, its length, its text, a NUL (PostgreSQL 18, 54.7).
_COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
LANE_WORK = b"COPY "
"""What only the transactions of lanes say."""


class CommitProxy:
    """Loses every `every`-th COMMIT of a transaction in which `behind` was said; all say b"".

    `silent` keeps the connection open and says nothing more; otherwise it is closed at once.
    """

    def __init__(
        self,
        database_url: str,
        *,
        loss: Loss,
        every: int,
        silent: bool,
        behind: bytes = LANE_WORK,
    ) -> None:
        self._target = urlsplit(database_url)
        self._loss = loss
        self._every = every
        self._silent = silent
        self._behind = behind
        self._commits = 0
        self.lost = 0
        self.losing = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """The URL to connect to."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        login = self._target.netloc.rpartition("@")[0]
        try:
            yield urlunsplit(self._target._replace(netloc=f"{login}@127.0.0.1:{port}"))
        finally:
            server.close()

    async def _connected(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
        answers = asyncio.create_task(_pump(server, to_client))
        try:
            await self._requests(client, to_server, answers)
        except ConnectionError:
            pass  # either side went away: the other one is told by closing below
        finally:
            answers.cancel()
            await asyncio.wait({answers})
            to_server.close()
            to_client.close()

    async def _requests(
        self,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        """Until the client leaves, or its connection is lost with a COMMIT."""
        meant = False
        while sent := await client.read(65536):
            meant = meant or self._behind in sent
            if _COMMIT in sent:
                if meant and self._loses():
                    await self._lose(sent, client, to_server, answers)
                    return
                meant = False
            to_server.write(sent)
            await to_server.drain()

    def _loses(self) -> bool:
        self._commits += 1
        return self.losing and self._commits % self._every == 0

    async def _lose(
        self,
        sent: bytes,
        client: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        self.lost += 1
        answers.cancel()
        if self._loss == "answer":
            to_server.write(sent)
            await to_server.drain()
        if self._silent:
            while await client.read(65536):
                pass


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while received := await reader.read(65536):
            writer.write(received)
            await writer.drain()
    except ConnectionError:
        pass  # as above
    writer.close()
