"""The `funnel` command as a process, with the servers of the session in its environment."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.servers import Servers

FUNNEL = Path(sys.executable).with_name("funnel")
SECONDS_MAX = 60

Environment = dict[str, str]


@pytest.fixture
def bare_environment(tmp_path: Path) -> Environment:
    """No setting but a data folder of its own."""
    kept = {"PATH", "HOME", "LANG", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"}
    inherited = {name: value for name, value in os.environ.items() if name in kept}
    return inherited | {"FUNNEL_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
def environment(bare_environment: Environment, servers: Servers, database_url: str) -> Environment:
    """Names the session's servers, a migrated database, a fresh topic prefix."""
    return bare_environment | {
        "DATABASE_URL": database_url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "FUNNEL_PARTITIONS": "4",
        "PORT": "0",
    }


@pytest.fixture
def funnel(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command to its end, in a folder of its own."""

    def run(*arguments: str, env: Environment) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FUNNEL, *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_MAX,
        )

    return run


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command and leaves it running; asks it to end with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, env: Environment) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [FUNNEL, *arguments],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS_MAX)
