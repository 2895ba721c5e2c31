"""PostgreSQL and Kafka of this machine in containers, from their official images.

The host's ports are chosen beforehand, so a server that was stopped, killed or paused comes back
where it was, and Kafka can be told its advertised address when the container is made.
"""

import importlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from stack import kafka, postgres
from stack.files import free_port
from stack.jars import KAFKA_VERSION
from stack.servers import Servers, StackError

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

POSTGRES_IMAGE = f"postgres:{postgres.MAJOR_VERSION}"
KAFKA_IMAGE = f"apache/kafka:{KAFKA_VERSION}"

READY_S_MAX = 120.0
STOP_S_MAX = 20

KAFKA_SETTINGS = kafka.SETTINGS | {
    # The node must reach itself by an address that is true inside the container.
    "inter.broker.listener.name": "INSIDE",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "listeners": "CLIENTS://0.0.0.0:9092,INSIDE://127.0.0.1:9093,CONTROLLER://127.0.0.1:9094",
    "controller.quorum.voters": "1@127.0.0.1:9094",
}


class ContainerServer:
    """One server in one container; data and port stay until the stack is stopped."""

    def __init__(self, container: "DockerContainer", ready: Callable[[], bool]) -> None:
        self._container = container
        self._ready = ready
        self._made = False

    def start(self) -> None:
        """Start it, again if it was stopped or killed, and wait until it answers."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._made = True
            self._container.start()
        deadline = time.monotonic() + READY_S_MAX
        while self._is_up() and not self._ready():
            if time.monotonic() > deadline:
                raise StackError(f"{self._container.image} not ready in {READY_S_MAX:.0f} s")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it politely, keep its data."""
        self._container.get_wrapped_container().stop(timeout=STOP_S_MAX)

    def kill(self) -> None:
        """SIGKILL all of its processes, as when the machine dies."""
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""
        self._container.get_wrapped_container().pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self._container.get_wrapped_container().unpause()

    def remove(self) -> None:
        """Remove the container with its data; harmless when there is none."""
        if self._made:
            self._container.stop()
            self._made = False

    def _is_up(self) -> bool:
        container = self._container.get_wrapped_container()
        container.reload()
        if container.status == "exited":
            log = container.logs(tail=3).decode(errors="replace").strip()
            raise StackError(f"{self._container.image} ended while starting: {log}")
        return True


class ContainerStack:
    """Both servers in fresh containers; the data goes with them at `stop`."""

    def __init__(self) -> None:
        """Start nothing yet.

        Raises:
            StackError: no Docker engine answers, or testcontainers is not installed.
        """
        if (reason := unavailable()) is not None:
            raise StackError(reason)
        postgres_port = free_port(taken=[])
        kafka_port = free_port(taken=[postgres_port])
        password = secrets.token_urlsafe(24)
        self._servers = Servers(
            f"postgresql://postgres:{password}@127.0.0.1:{postgres_port}/funnel",
            f"127.0.0.1:{kafka_port}",
        )
        self.postgres = _postgres(postgres_port, password)
        self.kafka = _kafka(kafka_port)

    def start(self) -> Servers:
        """Start both at once and wait until each answers.

        Raises:
            StackError: one did not come up, or the engine has no image; then both are removed.
        """
        try:
            with ThreadPoolExecutor(2) as pool:
                for started in [pool.submit(each.start) for each in (self.postgres, self.kafka)]:
                    started.result()
        except _docker_errors().DockerException as error:
            self.stop()
            raise StackError(f"the Docker engine refused: {error}") from error
        except StackError:
            self.stop()
            raise
        return self._servers

    def stop(self) -> None:
        """Remove both containers."""
        self.postgres.remove()
        self.kafka.remove()


def unavailable() -> str | None:
    """Why containers cannot be had here, or None if they can."""
    try:
        from testcontainers.core.docker_client import DockerClient
    except ImportError:
        return "testcontainers is not installed"
    try:
        DockerClient().client.ping()
    except _docker_errors().DockerException as error:
        return f"no Docker engine answers: {error}"
    return None


def _docker_errors() -> Any:
    return importlib.import_module("docker.errors")  # has no types


def _postgres(port: int, password: str) -> ContainerServer:
    from testcontainers.core.container import DockerContainer

    settings = postgres.SETTINGS | {"listen_addresses": "*"}
    del settings["unix_socket_directories"]
    container = (
        DockerContainer(POSTGRES_IMAGE)
        .with_bind_ports(5432, port)
        .with_env("POSTGRES_PASSWORD", password)
        .with_env("POSTGRES_DB", "funnel")
        .with_env("POSTGRES_INITDB_ARGS", " ".join(postgres.INITDB_ARGUMENTS))
        .with_command(["postgres", *(f"--{name}={value}" for name, value in settings.items())])
    )
    # While the image's entry point still prepares the cluster, it listens on no TCP port.
    answer = ["pg_isready", "--quiet", "--host=127.0.0.1"]
    return ContainerServer(container, lambda: container.exec(answer).exit_code == 0)


def _kafka(port: int) -> ContainerServer:
    from testcontainers.core.container import DockerContainer

    advertised = f"CLIENTS://127.0.0.1:{port},INSIDE://127.0.0.1:9093"
    container = DockerContainer(KAFKA_IMAGE).with_bind_ports(9092, port)
    for name, value in (KAFKA_SETTINGS | {"advertised.listeners": advertised}).items():
        container.with_env(f"KAFKA_{name.upper().replace('.', '_')}", value)
    return ContainerServer(container, lambda: kafka.answers(port))
