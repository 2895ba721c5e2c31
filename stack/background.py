"""A server process that outlives whoever started it.

It is known by a pid file that it wrote itself before it became the server, so no start can lose
it; a pid counts only while that process names the server's folder in its command line, so a
reused pid is never signalled. It has its own session: Ctrl-C in a terminal does not reach it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from stack.servers import StackError

POLL_S = 0.02

KILL_S_MAX = 10.0
"""SIGKILL is immediate unless the process sits in a disk write."""


class BackgroundProcess:
    """The process that serves `folder`, whoever started it."""

    def __init__(self, *, title: str, folder: Path, log_file: Path) -> None:
        self.title = title
        self.folder = folder
        self.log_file = log_file
        self._pid_file = folder / "pid"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The pid while it runs (a paused process runs), else None."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if f"{self.folder}/" in _command_line(pid) else None

    def spawn(
        self, command: list[str], *, user: int | None, environment: Mapping[str, str]
    ) -> None:
        """Start `command` as `user` (None: as ourselves), output appended to the log file."""
        self._pid_file.unlink(missing_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._pid_file), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()`.

        Raises:
            StackError: it ended, or was not ready in time; with the last line of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self._child is not None and self._child.poll() is not None
            if ended or time.monotonic() > deadline:
                how = "ended while starting" if ended else f"not ready after {timeout_s:.0f} s"
                raise StackError(f"{self.title} {how}: {self._last_line()} (see {self.log_file})")
            time.sleep(POLL_S)

    def stop(self, polite: signal.Signals, *, timeout_s: float) -> None:
        """Ask politely, wait, then kill. Does nothing when it is not running."""
        pid = self.pid
        if pid is None:
            return
        self.resume()
        _send(pid, polite)
        if not self._gone(pid, timeout_s=timeout_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL the process and its children; stopped first, so that it spawns no more."""
        pid = self.pid
        if pid is None:
            return
        _send(pid, signal.SIGSTOP)
        for each in (*_children(pid), pid):
            _send(each, signal.SIGKILL)
        if not self._gone(pid, timeout_s=KILL_S_MAX):
            raise StackError(f"{self.title} (pid {pid}) did not end after SIGKILL")

    def pause(self) -> None:
        """SIGSTOP the process, then its children: connections stay open and nobody answers."""
        if (pid := self.pid) is not None:
            _send(pid, signal.SIGSTOP)
            for child in _children(pid):
                _send(child, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`; harmless when not paused."""
        if (pid := self.pid) is not None:
            for each in (*_children(pid), pid):
                _send(each, signal.SIGCONT)

    def _gone(self, pid: int, *, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid is not None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        _reap(pid)
        if self._child is not None:
            self._child.wait(timeout=KILL_S_MAX)
        self._pid_file.unlink(missing_ok=True)
        return True

    def _last_line(self) -> str:
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "its log is empty"


def _send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return  # it ended meanwhile, which is what every caller then waits for or wants


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return  # another process started it, or its Popen has reaped it


def _command_line(pid: int) -> str:
    """Empty for a process that is gone or only waits to be reaped."""
    if sys.platform != "linux":
        return _ps("-ww", "-o", "command=", "-p", str(pid))
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _children(pid: int) -> list[int]:
    if sys.platform != "linux":
        rows = (row.split() for row in _ps("-ax", "-o", "pid=,ppid=").splitlines())
        return [int(child) for child, parent in rows if int(parent) == pid]
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _ps(*arguments: str) -> str:
    return subprocess.run(
        ["ps", *arguments], capture_output=True, text=True, check=False, timeout=10
    ).stdout
