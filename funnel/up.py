"""Everything on this machine, in one process but for the two servers.

What starts here ends here, in the opposite order: the consumer hands its lanes over and the API
answers its last requests before the servers stop, and the data stays for the next time.
"""

import asyncio
import shutil
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from contract.spans import OpenSpan
from funnel.consume import consume_config, run_consumer
from funnel.data_folder import alone_in, data_folder
from funnel.demo import SOURCE, load_candidates, run_demo
from funnel.serve import bind, run_api
from funnel.settings import BadSettings, Settings
from funnel.shutdown import stop_signals
from funnel.topics import apply
from migrations.runner import migrate_up
from producer.client import CommandClient
from stack.embedded import EmbeddedStack
from stack.servers import ServerStatus, StackError

SEED = 20_261_123
"""Any number; fixed, so that a second `up` finds the candidates of the first."""

WATCH_S = 1.0
TITLES = {"postgres": "PostgreSQL", "kafka": "Kafka"}

Report = Callable[[str], None]
Welcome = Callable[[Settings], None]


async def run_up(
    told: Settings,
    *,
    demo_candidates: int,
    report: Report,
    welcome: Welcome,
    open_span: OpenSpan,
) -> None:
    """Start everything that is not there, run until SIGTERM or SIGINT, stop what was started.

    Args:
        told: the settings; a server that they name is used and left alone.
        demo_candidates: how many to load through the commands topic; 0 for no demo.
        report: takes lines of progress.
        open_span: from `tracing`.
        welcome: called once all can be used, with settings that say where the servers are.

    Raises:
        BadSettings: the port is in use, or another `funnel up` runs on this data folder.
        StackError: a server did not come up, or ended by itself.
    """
    folder = data_folder(told)
    stack = EmbeddedStack(folder, report=report)
    taken = BadSettings(f"FUNNEL_DATA_DIR: another `funnel up` runs in {folder}")
    with (
        alone_in(folder, otherwise=taken),
        bind(told) as listener,
        stop_signals(now=partial(_kill, told, stack)) as stopping,
    ):
        try:
            settings = await asyncio.to_thread(_start, told, stack)
            if not stopping.is_set():
                await _prepare(settings, report)
                show = partial(_show, settings, stopping, demo_candidates, report, welcome)
                watch = partial(_watch, told, stack, stopping)
                await _run(settings, listener, stopping, open_span, show, watch)
        finally:
            report("stopping")
            await asyncio.to_thread(_stop, told, stack)
        report(f"stopped; the data is in {folder}")


async def _prepare(settings: Settings, report: Report) -> None:
    url = settings.database_url.get_secret_value()
    await migrate_up(url, report=report)
    created = await apply(
        settings.kafka_options(), url, settings.topics, partitions_total=settings.partitions_total
    )
    if created:
        report(f"created {len(created)} topics with {settings.partitions_total} partitions each")


async def _run(
    settings: Settings,
    listener: socket.socket,
    stopping: asyncio.Event,
    open_span: OpenSpan,
    show: Callable[[asyncio.Event], Coroutine[Any, Any, None]],
    watch: Callable[[], Coroutine[Any, Any, StackError | None]],
) -> None:
    """The roles side by side; if one fails or a server ends, all end."""
    ready, registry = asyncio.Event(), CollectorRegistry()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        tasks.create_task(run_consumer(consume_config(settings, open_span), stopping, registry))
        tasks.create_task(
            run_api(settings, listener, stopping, open_span, ready=ready.set, registry=registry)
        )
        showing = tasks.create_task(show(ready))
        await stopping.wait()
        # It may be waiting for results, and the consumer that gives them is leaving.
        showing.cancel()
    if ended := watching.result():
        raise ended


async def _watch(
    told: Settings, stack: EmbeddedStack, stopping: asyncio.Event
) -> StackError | None:
    """Ask all to stop when a server of ours has ended, and tell which."""
    while not stopping.is_set():
        for each in await asyncio.to_thread(_statuses, told, stack):
            if not each.running:
                stopping.set()
                free = shutil.disk_usage(told.data_dir).free >> 20
                return StackError(
                    f"{TITLES[each.server]} ended by itself; "
                    f"its log is {told.data_dir / 'logs' / each.server}.log, "
                    f"{free:,} MiB free on disk"
                )
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), WATCH_S)
    return None


async def _show(
    settings: Settings,
    stopping: asyncio.Event,
    demo_candidates: int,
    report: Report,
    welcome: Welcome,
    ready: asyncio.Event,
) -> None:
    await ready.wait()
    if not demo_candidates:
        welcome(settings)
        return
    async with CommandClient(
        kafka=settings.kafka_options(), source=SOURCE, topics=settings.topics
    ) as client:
        await load_candidates(
            client=client,
            candidates_total=demo_candidates,
            seed=SEED,
            stop=stopping,
            report=report,
        )
        welcome(settings)
        await run_demo(
            client=client,
            candidates_total=demo_candidates,
            seed=SEED,
            stop=stopping,
            report=report,
        )


def _start(told: Settings, stack: EmbeddedStack) -> Settings:
    """Start the servers that the settings do not name; returns settings that name both."""
    if told.database_url and told.kafka_bootstrap_servers:
        return told
    if told.database_url:
        return told.model_copy(update={"kafka_bootstrap_servers": stack.kafka.start()})
    if told.kafka_bootstrap_servers:
        return told.model_copy(update={"database_url": SecretStr(stack.postgres.start())})
    servers = stack.start()
    return told.model_copy(
        update={
            "database_url": SecretStr(servers.database_url),
            "kafka_bootstrap_servers": servers.kafka_bootstrap_servers,
        }
    )


def _stop(told: Settings, stack: EmbeddedStack) -> None:
    if not told.database_url:
        stack.postgres.stop()
    if not told.kafka_bootstrap_servers:
        stack.kafka.stop()


def _kill(told: Settings, stack: EmbeddedStack) -> None:
    if not told.database_url:
        stack.postgres.kill()
    if not told.kafka_bootstrap_servers:
        stack.kafka.kill()


def _statuses(told: Settings, stack: EmbeddedStack) -> list[ServerStatus]:
    """Of the servers that are ours."""
    named = {"postgres": told.database_url, "kafka": told.kafka_bootstrap_servers}
    return [each for each in stack.status() if not named[each.server]]
