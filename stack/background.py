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
from collections.abc import Callable
from pathlib import Path

from stack.servers import Report, StackError

POLL_S = 0.02

REAP_S_MAX = 3.0
"""In a container whose first process reaps nobody, a zombie stays for ever."""

KILL_S_MAX = 10.0
"""SIGKILL is immediate unless the process sits in a disk write."""


STARTS_MAX = 3
"""How often a port is chosen anew: who listens on 200 free ones in turn does it on purpose."""


class BackgroundProcess:
    """The process that serves `folder`, whoever started it."""

    def __init__(self, *, title: str, folder: Path, log_file: Path) -> None:
        self.title = title
        self.folder = folder
        self.log_file = log_file
        self._pid_file = folder / "pid"
        self._child: int | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int | None:
        """The pid while it runs (a paused process runs), else None."""
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if f"{self.folder}/" in command_line(pid) else None

    def spawn(self, command: list[str], *, user: int | None) -> None:
        """Start `command` as `user` (None: as ourselves), output appended to the log file."""
        self._pid_file.unlink(missing_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_begins = log.tell()
            child = subprocess.Popen(
                ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self._pid_file), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )
        self._child = child.pid
        child.returncode = 0  # we reap it; without this Popen would warn that it still runs

    def start(
        self,
        spawn: Callable[[], None],
        ready: Callable[[], bool],
        *,
        timeout_s: float,
        report: Report,
    ) -> None:
        """`spawn()` and wait until `ready()`; again, should the chosen port be taken meanwhile.

        Args:
            spawn: chooses a free port and calls our `spawn` with it.

        Raises:
            StackError: see `wait_ready`.
        """
        for starts in range(1, STARTS_MAX + 1):
            spawn()
            try:
                return self.wait_ready(ready, timeout_s=timeout_s)
            except StackError as error:
                if starts == STARTS_MAX or not self.lost_its_port():
                    raise
                report(f"{error}; trying again on another port")
        return None

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait until `ready()`.

        Raises:
            StackError: it ended, or was not ready in time; with the last line of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self.pid is None and (self._child is None or _has_ended(self._child))
            if ended or time.monotonic() > deadline:
                how = "ended while starting" if ended else f"not ready after {timeout_s:.0f} s"
                raise StackError(f"{self.title} {how}: {self._last_line()} (see {self.log_file})")
            time.sleep(POLL_S)

    def stop(self, polite: signal.Signals, *, timeout_s: float) -> None:
        """Ask politely, wait, then kill. Does nothing when it is not running."""
        if (pid := self.pid) is None:
            return
        self.resume()
        _send(pid, polite)
        if not _all_ended([pid], timeout_s=timeout_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL the process and its children; stopped first, so that it spawns no more."""
        if (pid := self.pid) is None:
            return
        _send(pid, signal.SIGSTOP)
        family = [*_children(pid), pid]
        for each in family:
            _send(each, signal.SIGKILL)
        if not _all_ended(family, timeout_s=KILL_S_MAX):
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

    def lost_its_port(self) -> bool:
        """Has the process that was spawned here ended, as somebody else had taken its port?"""
        if self.pid is not None:
            return False
        with self.log_file.open("rb") as log:
            log.seek(self._log_begins)
            return b"Address already in use" in log.read()

    def _last_line(self) -> str:
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "its log is empty"


def _send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return  # it ended meanwhile, which is what every caller then waits for or wants


def _all_ended(pids: list[int], *, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    for pid in pids:
        while not _has_ended(pid):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        _wait_reaped(pid)
    return True


def _has_ended(pid: int) -> bool:
    """Its memory and ports are free; a zombie's are."""
    return _state(pid) in ("", "Z", "X")


def _wait_reaped(pid: int) -> None:
    """PostgreSQL takes a zombie for a living postmaster, so give its parent time to reap it."""
    deadline = time.monotonic() + REAP_S_MAX
    while _state(pid) != "" and time.monotonic() < deadline:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            time.sleep(POLL_S)  # the process that started it must do it, or init


def _state(pid: int) -> str:
    """One letter; empty when there is no such process."""
    if sys.platform != "linux":
        return _ps("-o", "stat=", "-p", str(pid)).strip()[:1]
    return _proc(pid, "stat").rpartition(")")[2].strip()[:1]


def command_line(pid: int) -> str:
    """Empty for a process that is gone or only waits to be reaped."""
    if sys.platform != "linux":
        return _ps("-ww", "-o", "command=", "-p", str(pid))
    return _proc(pid, "cmdline").replace("\0", " ")


def listens(pid: int, port: int) -> bool:
    """Is it this process that listens on a port of 127.0.0.1? Linux tells, else it is believed."""
    if sys.platform != "linux":
        return True
    wanted = f":{port:04X}"
    rows = [line.split() for table in ("tcp", "tcp6") for line in _net(table)]
    inodes = {row[9] for row in rows if row[1].endswith(wanted) and row[3] == "0A"}
    try:
        files = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(f"socket:[{inode}]" in files for inode in inodes)


def _net(table: str) -> list[str]:
    path = Path(f"/proc/net/{table}")
    return path.read_text().splitlines()[1:] if path.exists() else []


def memory_in_use(segment: str) -> bool:
    """Is a process attached to this segment of System V shared memory? Linux tells, else no."""
    table = Path("/proc/sysvipc/shm")
    rows = [line.split() for line in table.read_text().splitlines()] if table.exists() else []
    return any(row[1] == segment and row[6] != "0" for row in rows[1:])


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
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
