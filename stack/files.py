"""Small promises about files and ports: one holder at a time, whole or not there at all."""

import fcntl
import os
import random
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stack.servers import StackError

LOCK_S_MAX = 300.0
"""Longer than the slowest holder: the first download of Kafka's jars on a slow line."""

PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of Linux and macOS: a client that keeps dialling the port of a server
that is down could otherwise be given that very port as its own, and connect to itself."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`; other threads and processes wait.

    Raises:
        StackError: somebody else held it for `LOCK_S_MAX` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + LOCK_S_MAX
    with path.open("w") as lock:
        while not _try_lock(lock.fileno()):
            if time.monotonic() > deadline:
                raise StackError(f"another process has held {path} for {LOCK_S_MAX:.0f} s")
            time.sleep(0.05)
        yield


def build_folder(folder: Path, build: Callable[[Path], None]) -> None:
    """Make `folder` by `build(unfinished)`; an interrupted build leaves no `folder` behind."""
    unfinished = folder.with_name(f"{folder.name}.new")
    for leftover in (unfinished, folder):
        if leftover.exists():
            shutil.rmtree(leftover)
    unfinished.mkdir(parents=True)
    build(unfinished)
    os.rename(unfinished, folder)


def write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees the old text or the new one."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def remembered_ports(path: Path, total: int) -> tuple[int, ...]:
    """The ports remembered in `path`; one that is in use by now is replaced by a free one."""
    remembered = [int(port) for port in path.read_text().split()] if path.exists() else []
    ports: list[int] = []
    for index in range(total):
        known = remembered[index] if index < len(remembered) else None
        ports.append(known if known is not None and _is_free(known) else free_port(taken=ports))
    write_whole(path, " ".join(str(port) for port in ports))
    return tuple(ports)


def cause_told(output: str) -> str:
    """The line of a program's last words that names the cause: what it tidied up comes after it."""
    lines = output.strip().splitlines()
    telling = [
        line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error|Exception)\b", line)
    ]
    return (telling or lines[-1:] or [""])[0]


def free_port(*, taken: list[int]) -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(PORTS, 200):
        if port not in taken and _is_free(port):
            return port
    raise StackError(f"no free port of 200 tried between {PORTS.start} and {PORTS.stop}")


@contextmanager
def file_errors_told(folder: Path) -> Iterator[None]:
    """Turn a full disk, a missing permission and the like into one line that says where."""
    try:
        yield
    except OSError as error:
        raise StackError(f"{error.filename or folder}: {error.strerror or error}") from error


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
