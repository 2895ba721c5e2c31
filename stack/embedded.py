"""PostgreSQL and Kafka of one data folder, as processes of this machine, from packages.

Whatever is interrupted, the next `start` heals; two data folders know nothing of each other.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from stack.files import file_errors_told
from stack.kafka import KafkaServer
from stack.postgres import PostgresServer
from stack.servers import Report, Servers, ServerStatus, StackError

DISK_BYTES_MIN = 512 * 1024 * 1024
"""An empty cluster, its first WAL, Kafka's jars and some room: a guess on the safe side."""


Answer = TypeVar("Answer")


def _silent(_line: str) -> None:
    return None


class EmbeddedStack:
    """Both servers of `data_dir`. They run on when the caller ends, until `stop`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        report: Report = _silent,
        kafka_heap_mib: int = 512,
        durable: bool = True,
    ) -> None:
        """Start nothing yet.

        Args:
            data_dir: Made if absent. Data, logs, ports and the password live below it.
            report: Takes lines of progress; called from two threads.
            kafka_heap_mib: Upper bound of the JVM's heap, in MiB.
            durable: False for tests: committed data may be lost when the machine loses power,
                never when a process is killed.
        """
        self._data_dir = data_dir.resolve()
        self.postgres = PostgresServer(self._data_dir, report=report, durable=durable)
        self.kafka = KafkaServer(self._data_dir, report=report, heap_mib=kafka_heap_mib)

    def start(self) -> Servers:
        """Start what is down, both at once, and wait until each answers.

        Raises:
            StackError: one did not come up; then both are stopped.
        """
        with file_errors_told(self._data_dir):
            self._data_dir.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._data_dir).free
        if free < DISK_BYTES_MIN:
            raise StackError(
                f"no disk space: {free >> 20} MiB free in {self._data_dir}, "
                f"{DISK_BYTES_MIN >> 20} needed"
            )
        try:
            database_url, kafka_bootstrap_servers = _both(self.postgres.start, self.kafka.start)
        except StackError:
            self.stop()
            raise
        return Servers(database_url, kafka_bootstrap_servers)

    def stop(self) -> None:
        """Stop both at once; leaves no process. Does nothing when they are down."""
        _both(self.postgres.stop, self.kafka.stop)

    def status(self) -> list[ServerStatus]:
        """How each server is, without asking it."""
        return [self.postgres.status(), self.kafka.status()]


def _both(first: Callable[[], Answer], second: Callable[[], Answer]) -> tuple[Answer, Answer]:
    with ThreadPoolExecutor(2) as pool:
        futures = pool.submit(first), pool.submit(second)
        return futures[0].result(), futures[1].result()
