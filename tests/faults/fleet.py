"""Consumer processes of one test: started, watched by their log lines, killed, paused, stopped."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any

import httpx2

from contract.events import DEFAULT_SOURCE
from contract.topics import Topics
from stack.files import free_port
from tests.faults.process import VARIABLE

WAIT_SECONDS = 30.0
"""Bound of every wait for something that takes well below a second on an idle machine."""

STALLED = "funnel: the event loop hangs, restart me\n"

Line = dict[str, Any]


class ConsumerProcess:
    """One process and what it said so far."""

    def __init__(
        self, process: Process, consumer_id: str, *, crashes: bool, metrics_port: int
    ) -> None:
        self._process = process
        self._metrics_port = metrics_port
        self.consumer_id = consumer_id
        self.crashes = (-signal.SIGKILL,) if crashes else ()
        self.lines: list[Line] = []
        self._said = asyncio.Condition()
        self._listening = asyncio.create_task(self._listen())

    async def said(self, action: str, *, seconds: float = WAIT_SECONDS, **fields: object) -> Line:
        """The first line with this action and these fields, waited for."""
        wanted = {"action": action, **fields}.items()
        try:
            async with asyncio.timeout(seconds), self._said:
                while True:
                    for line in self.lines:
                        if wanted <= line.items():
                            return line
                    if self._listening.done():
                        raise AssertionError(f"{self.consumer_id} ended: {self.story()}")
                    await self._said.wait()
        except TimeoutError:
            told = f"{self.consumer_id} never said {dict(wanted)}: {self.story()}"
            raise AssertionError(told) from None

    def actions(self, action: str) -> list[Line]:
        """What it said of this so far."""
        return [line for line in self.lines if line.get("action") == action]

    def story(self) -> str:
        """For a failed assertion: the last lines."""
        return "\n".join(json.dumps(line) for line in self.lines[-40:])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ready(self) -> bool:
        """What its `/readyz` says now."""
        url = f"http://127.0.0.1:{self._metrics_port}/readyz"
        async with httpx2.AsyncClient(timeout=WAIT_SECONDS) as client:
            return (await client.get(url)).is_success

    async def ended(self, *, seconds: float = WAIT_SECONDS) -> int:
        """Its exit code, negative for a signal, waited for."""
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._listening)
                return await self._process.wait()
        except TimeoutError:
            self.tell()
            await asyncio.sleep(1)  # it tells where its tasks wait, if it still can
            raise AssertionError(f"{self.consumer_id} does not end: {self.story()}") from None

    async def paused(self, *, seconds: float = WAIT_SECONDS) -> None:
        """Returns once it is stopped by SIGSTOP."""
        wanted = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        waiting = asyncio.to_thread(os.waitid, os.P_PID, self._process.pid, wanted)
        found = await asyncio.wait_for(waiting, seconds)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, self.story()

    async def killed(self) -> None:
        """SIGKILL, and gone."""
        self._signal(signal.SIGKILL)
        await self.ended()

    async def terminated(self) -> int:
        """SIGTERM, once it is there to hear it; the exit code."""
        await self.said("consumer_started")
        self.terminate()
        return await self.ended()

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def tell(self) -> None:
        self._signal(signal.SIGUSR1)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Not by the process object: it may reap the process behind the back of asyncio."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    async def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        while line := await stream.readline():
            async with self._said:
                self.lines.append(_parsed(line))
                self._said.notify_all()
        await self._process.wait()
        async with self._said:
            self._said.notify_all()


class Fleet:
    """Starts consumers of one deployment, and leaves none behind."""

    def __init__(self, *, database_url: str, kafka: dict[str, object], topics: Topics) -> None:
        self._settings = {
            "database_url": database_url,
            "kafka": kafka,
            "topic_prefix": topics.prefix,
            "event_source": DEFAULT_SOURCE,
            "lease_seconds": 2,
            "watchdog_seconds": 30,
            "batch_records_max": 200,
            "chunk_items": 50,
            "seal_seconds": None,
            "lane_retry_seconds": 1,
            "fail_at": None,
            "stall_at": None,
            "stall_seconds": 0.0,
            "stall_watch": False,
            "detours": {},
        }
        self.consumers: list[ConsumerProcess] = []

    async def start(
        self,
        consumer_id: str = "one",
        *,
        crash_at: str | None = None,
        pause_at: str | None = None,
        **settings: object,
    ) -> ConsumerProcess:
        """A new process; `settings` replace those of the fleet."""
        port = free_port(taken=[])
        told = {"consumer_id": consumer_id, "metrics_port": port}
        chosen = self._settings | settings | told
        environment = dict(os.environ) | {VARIABLE: json.dumps(chosen)}
        for name, point in (("FUNNEL_CRASH_AT", crash_at), ("FUNNEL_PAUSE_AT", pause_at)):
            environment.pop(name, None)
            if point is not None:
                environment[name] = point
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.process", stderr=PIPE, env=environment
        )
        crashes = crash_at is not None
        consumer = ConsumerProcess(process, consumer_id, crashes=crashes, metrics_port=port)
        self.consumers.append(consumer)
        return consumer

    async def stop(self) -> None:
        """Kill what runs; then nothing may have failed unseen in any of them."""
        for consumer in self.consumers:
            if consumer.running:
                consumer.resume()
                await consumer.killed()
        for consumer in self.consumers:
            unseen = [line for line in consumer.lines if _unseen_failure(line)]
            assert not unseen, (consumer.consumer_id, unseen)

    async def tell(self) -> None:
        """Let those that run say where their tasks wait: the end of their story."""
        for consumer in self.consumers:
            if consumer.running:
                consumer.tell()
        await asyncio.sleep(1)

    def story(self) -> str:
        """For a failed test: what each of them said last."""
        return "\n".join(f"{each.consumer_id}:\n{each.story()}" for each in self.consumers)


def _parsed(line: bytes) -> Line:
    try:
        parsed = json.loads(line)
    except ValueError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"unstructured": line.decode(errors="replace")}


def _unseen_failure(line: Line) -> bool:
    """A task whose exception nobody looked at, or a traceback past the log.

    Those of libraries are not ours: they leave some behind when a server cuts them off.
    """
    event = str(line.get("event"))
    ours = event.startswith("Task ") and "/site-packages/" not in event
    return ours or ("unstructured" in line and line["unstructured"] != STALLED)
