"""Three brokers, so that a leader can move to another one; the first is the controller, too."""

import asyncio
import base64
import signal
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from stack.background import BackgroundProcess
from stack.files import free_port
from stack.jars import kafka_class_path
from stack.kafka import LOGGING, SETTINGS, _java, answers

NODES = (1, 2, 3)
READY_S_MAX = 90.0
STOP_S_MAX = 15.0
REPLICATED = {
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "offsets.topic.replication.factor": "3",
}


class Node:
    """One broker of the cluster."""

    def __init__(self, folder: Path, number: int, port: int, settings: dict[str, str]) -> None:
        self._folder = folder / f"node-{number}"
        self._folder.mkdir()
        self._port = port
        self._properties = self._folder / "server.properties"
        self._logging = self._folder / "log4j2.properties"
        told = settings | {"node.id": str(number), "log.dirs": str(self._folder / "data")}
        self._properties.write_text("".join(f"{key}={told[key]}\n" for key in told))
        self._logging.write_text(LOGGING)
        self._process = BackgroundProcess(
            title=f"Kafka {number}", folder=self._folder, log_file=folder / f"node-{number}.log"
        )

    def format(self, cluster_id: str) -> None:
        told = ["format", "--config", str(self._properties), "--cluster-id", cluster_id]
        tool = [*self._command(), "kafka.tools.StorageTool", *told]
        subprocess.run(tool, capture_output=True, check=True, timeout=READY_S_MAX)

    def start(self) -> None:
        """Returns once it takes requests."""
        self._process.spawn(
            [*self._command("-Xmx256m"), "kafka.Kafka", str(self._properties)], user=None
        )
        self._process.wait_ready(lambda: answers(self._port), timeout_s=READY_S_MAX)

    def stop(self) -> None:
        self._process.stop(signal.SIGTERM, timeout_s=STOP_S_MAX)

    def kill(self) -> None:
        self._process.kill()

    def _command(self, *options: str) -> list[str]:
        java = _java(kafka_class_path(print))
        return [*java, *options, f"-Dlog4j2.configurationFile={self._logging}"]


class Cluster:
    """Made in an empty folder."""

    def __init__(self, folder: Path) -> None:
        ports: list[int] = []
        for _ in range(len(NODES) + 1):
            ports.append(free_port(taken=ports))
        *clients, controller = ports
        self.kafka = {"bootstrap_servers": f"127.0.0.1:{clients[0]}"}
        settings = SETTINGS | REPLICATED
        settings |= {"controller.quorum.voters": f"1@127.0.0.1:{controller}"}
        self.nodes = {}
        for number, port in zip(NODES, clients, strict=True):
            listener = f"CLIENTS://127.0.0.1:{port}"
            own = {"listeners": listener, "advertised.listeners": listener}
            if number == NODES[0]:
                own["listeners"] += f",CONTROLLER://127.0.0.1:{controller}"
            else:
                own["process.roles"] = "broker"
            self.nodes[number] = Node(folder, number, port, settings | own)

    async def start(self) -> None:
        cluster_id = base64.urlsafe_b64encode(b"A" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        await self._each(lambda node: node.format(cluster_id))
        await self._each(Node.start)

    async def stop(self) -> None:
        await self._each(Node.kill)

    async def _each(self, do: Callable[[Node], None]) -> None:
        await asyncio.gather(*(asyncio.to_thread(do, node) for node in self.nodes.values()))
