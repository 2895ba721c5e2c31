"""Where a fault campaign takes place: servers, the ways to them, and two consumers kept alive."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from funnel.crash import CRASH_POINTS
from tests.conftest import OwnStack
from tests.faults.fleet import ConsumerProcess, Fleet
from tests.faults.link import Link
from tests.faults.world import World

NAMES = ("one", "two")
BEGINS_WITHIN = 1.5
LASTS_MIN, LASTS_MAX = 0.1, 2.5
LOOK_EVERY = 0.2


class Fault(NamedTuple):
    """One thing that goes wrong, drawn before the round begins."""

    kind: str
    begins: float
    lasts: float
    name: str
    point: str

    def __str__(self) -> str:
        return f"{self.kind} ({self.name}, {self.point}, at {self.begins:.1f}, {self.lasts:.1f} s)"


class Site:
    """Two consumers that reach both servers only by links, restarted whenever one ends."""

    def __init__(self, *, stack: OwnStack, world: World, fleet: Fleet) -> None:
        self.stack = stack
        self.world = world
        self.fleet = fleet
        self.consumers: dict[str, ConsumerProcess] = {}
        self._armed: dict[str, dict[str, str]] = {}
        self._calm = True
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        postgres = urlsplit(self.world.database_url)
        host, _, port = str(self.world.kafka["bootstrap_servers"]).rpartition(":")
        self.postgres = await Link(str(postgres.hostname), postgres.port or 0).start()
        self.kafka = await Link(host, int(port)).start()
        self.settings: dict[str, Any] = {
            "database_url": self.postgres.url(self.world.database_url),
            "detours": {port: self.kafka.port},
            "batch_records_max": 40,
            "chunk_items": 3,
        }
        self._keeping = asyncio.create_task(self._keep())
        await self.world.shared({"one": {2}, "two": {2}})

    async def suffer(self, faults: list[Fault]) -> None:
        """All of these, each at its time; afterwards nothing is wrong any more."""
        self._calm = False
        try:
            await asyncio.gather(*(self._suffer(fault) for fault in faults))
        finally:
            self.postgres.heal()
            self.kafka.heal()
            await asyncio.to_thread(self.stack.start)
            self._calm = True
        self._demand_keeper()

    async def leave(self) -> None:
        """Whatever they went through, both consumers stop in order."""
        self._demand_keeper()
        await self._stop_keeper()
        for name, consumer in self.consumers.items():
            consumer.terminate()
            ending = asyncio.create_task(consumer.ended())
            while not ending.done():
                consumer.resume()  # its pause point may come only now, or its crash point
                await asyncio.wait({ending}, timeout=LOOK_EVERY)
            code = ending.result()
            assert code in (0, *consumer.crashes), (name, code, consumer.story())

    async def stop(self) -> None:
        await self._stop_keeper()
        await asyncio.to_thread(self.stack.start)
        await self.fleet.stop()
        await self.postgres.stop()
        await self.kafka.stop()

    def arm(self, name: str, **points: str) -> None:
        """The next process of this name crashes or pauses at a point."""
        self._armed[name] = points

    async def _suffer(self, fault: Fault) -> None:
        await asyncio.sleep(fault.begins)
        async with KINDS[fault.kind](self, fault):
            await asyncio.sleep(fault.lasts)

    async def _keep(self) -> None:
        """Be the supervisor that every deployment has."""
        while True:
            for name in NAMES:
                consumer = self.consumers.get(name)
                if consumer is not None and consumer.running:
                    if self._calm:
                        consumer.resume()  # one that paused itself at a point
                    continue
                if consumer is not None:
                    await _demand_known_end(consumer)
                points = self._armed.pop(name, {})
                self.consumers[name] = await self.fleet.start(name, **points, **self.settings)
            await asyncio.sleep(LOOK_EVERY)

    def _demand_keeper(self) -> None:
        if self._keeping is not None and self._keeping.done():
            self._keeping.result()

    async def _stop_keeper(self) -> None:
        if self._keeping is not None and not self._keeping.done():
            self._keeping.cancel()
            await asyncio.wait({self._keeping})


async def _demand_known_end(consumer: ConsumerProcess) -> None:
    """Killed, or not even started because a server was away; nothing else ends a consumer."""
    code = await consumer.ended()
    halts = consumer.actions("lane_halted")
    assert not halts, (halts, consumer.story())
    if code in (0, -9):
        return
    assert not consumer.actions("consumer_started"), consumer.story()


@asynccontextmanager
async def _killed(site: Site, fault: Fault) -> AsyncIterator[None]:
    await site.consumers[fault.name].killed()
    yield


@asynccontextmanager
async def _terminated(site: Site, fault: Fault) -> AsyncIterator[None]:
    site.consumers[fault.name].terminate()
    yield


@asynccontextmanager
async def _paused(site: Site, fault: Fault) -> AsyncIterator[None]:
    consumer = site.consumers[fault.name]
    consumer.pause()
    yield
    if consumer.running:
        consumer.resume()


@asynccontextmanager
async def _crashing(site: Site, fault: Fault) -> AsyncIterator[None]:
    site.arm(fault.name, crash_at=fault.point)
    await site.consumers[fault.name].killed()
    yield


@asynccontextmanager
async def _pausing(site: Site, fault: Fault) -> AsyncIterator[None]:
    site.arm(fault.name, pause_at=fault.point)
    await site.consumers[fault.name].killed()
    yield


@asynccontextmanager
async def _joined(site: Site, fault: Fault) -> AsyncIterator[None]:
    """A third consumer, for a while."""
    guest = await site.fleet.start("guest", **site.settings)
    yield
    guest.terminate()


@asynccontextmanager
async def _postgres_killed(site: Site, _: Fault) -> AsyncIterator[None]:
    await asyncio.to_thread(site.stack.postgres.kill)
    yield
    await asyncio.to_thread(site.stack.postgres.start)


@asynccontextmanager
async def _postgres_restarted(site: Site, _: Fault) -> AsyncIterator[None]:
    await asyncio.to_thread(site.stack.postgres.stop)
    await asyncio.to_thread(site.stack.postgres.start)
    yield


@asynccontextmanager
async def _postgres_paused(site: Site, _: Fault) -> AsyncIterator[None]:
    site.stack.postgres.pause()
    yield
    site.stack.postgres.resume()


@asynccontextmanager
async def _kafka_killed(site: Site, _: Fault) -> AsyncIterator[None]:
    await asyncio.to_thread(site.stack.kafka.kill)
    yield
    await asyncio.to_thread(site.stack.kafka.start)


@asynccontextmanager
async def _kafka_paused(site: Site, _: Fault) -> AsyncIterator[None]:
    site.stack.kafka.pause()
    yield
    site.stack.kafka.resume()


def _on(link: str, begin: Callable[[Link], None]) -> "Kind":
    @asynccontextmanager
    async def fault(site: Site, _: Fault) -> AsyncIterator[None]:
        way = site.postgres if link == "postgres" else site.kafka
        begin(way)
        yield
        way.heal()

    return fault


Kind = Callable[[Site, Fault], AbstractAsyncContextManager[None]]
KINDS: dict[str, Kind] = {
    "consumer killed": _killed,
    "consumer terminated": _terminated,
    "consumer paused": _paused,
    "consumer crashing": _crashing,
    "consumer pausing itself": _pausing,
    "third consumer": _joined,
    "postgresql killed": _postgres_killed,
    "postgresql restarted": _postgres_restarted,
    "postgresql paused": _postgres_paused,
    "kafka killed": _kafka_killed,
    "kafka paused": _kafka_paused,
}
for _link in ("postgres", "kafka"):
    KINDS[f"{_link} cut off"] = _on(_link, Link.cut)
    KINDS[f"{_link} connections dropped"] = _on(_link, Link.drop)
    KINDS[f"{_link} connections reset"] = _on(_link, lambda way: way.drop(reset=True))
    KINDS[f"{_link} silent"] = _on(_link, Link.fall_silent)
    KINDS[f"{_link} slow"] = _on(_link, lambda way: way.slow_down(0.05))
WEIGHTS = {"consumer killed": 3, "consumer crashing": 5, "consumer pausing itself": 3}


def draw(chance: random.Random, total: int) -> list[Fault]:
    """Faults of different kinds, on the consumers one at most each."""
    kinds: dict[str, None] = {}
    weights = [WEIGHTS.get(kind, 1) for kind in KINDS]
    while len(kinds) < total:
        kinds[chance.choices(list(KINDS), weights=weights)[0]] = None
    return [
        Fault(
            kind=kind,
            begins=chance.uniform(0, BEGINS_WITHIN),
            lasts=chance.uniform(LASTS_MIN, LASTS_MAX),
            name=chance.choice(NAMES),
            point=f"{chance.choice(CRASH_POINTS)}:{chance.randint(1, 8)}",
        )
        for kind in kinds
    ]
