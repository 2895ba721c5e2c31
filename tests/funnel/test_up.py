"""`funnel up` from nothing: real servers of its own, demo data, pasted commands, a clean end."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from stack.embedded import EmbeddedStack
from stack.files import free_port

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
Environment = dict[str, str]

TRY = "Try in another terminal:"
PROGRESS = (
    "creating the PostgreSQL cluster",
    "PostgreSQL ready on port",
    "Kafka ready on port",
    "created 4 topics",
    "demo: 50 of 50 candidates",
)


def up(started: Start, env: Environment) -> tuple[subprocess.Popen[str], list[str]]:
    """Starts it and reads what it says, to the last command to try."""
    process = started("up", "--demo", "50", env=env)
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if TRY in lines and line.rstrip().endswith("tail changes"):
            return process, lines
    raise AssertionError("\n".join(lines))


def end(process: subprocess.Popen[str], how: signal.Signals) -> str:
    """Asks it to end as `how` says, and it does; returns what it said meanwhile."""
    process.send_signal(how)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said


@pytest.mark.timeout(300)
def test_up__from_nothing_twice(
    started: Start, funnel: Run, bare_environment: Environment, tmp_path: Path
) -> None:
    env = bare_environment | {"PORT": str(free_port(taken=[])), "FUNNEL_PARTITIONS": "4"}

    process, lines = up(started, env)
    commands = lines[lines.index(TRY) + 1 : -1]
    tried = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    another = funnel("up", "--port", str(free_port(taken=[])), env=env)
    refused = funnel("stack", "stop", env=env)
    metrics = httpx2.get(f"http://127.0.0.1:{env['PORT']}/metrics", timeout=30).text
    said = end(process, signal.SIGINT)

    assert [step for step in PROGRESS if not any(step in line for line in lines)] == []
    assert '"candidate_id"' in tried
    assert '"rating":5' in tried
    assert '"success":true' in tried
    assert "applied" in tried or "unchanged" in tried
    assert another.returncode == 78
    assert "another `funnel up` runs" in another.stderr
    assert refused.returncode == 75
    assert refused.stderr.startswith("funnel: `funnel up` runs in")
    assert 'funnel_lane_owned{lane="3"} 1.0' in metrics
    assert "funnel_http_requests_total" in metrics
    assert said.endswith(f"stopped; the data is in {tmp_path / 'data'}\n")
    assert not any(each.running for each in EmbeddedStack(tmp_path / "data").status())

    process, lines = up(started, env)
    assert any("50 candidates are there" in line for line in lines)
    EmbeddedStack(tmp_path / "data").kafka.kill()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 69
    assert said.splitlines()[-1].startswith("funnel: Kafka ended by itself; its log is ")
    assert not any(each.running for each in EmbeddedStack(tmp_path / "data").status())
    assert funnel("stack", "stop", env=env).stdout == "nothing was running\n"


def test_up__leaves_servers_alone_that_it_was_told_of(
    started: Start, funnel: Run, environment: Environment
) -> None:
    prefix = f"up{free_port(taken=[])}."
    env = environment | {"PORT": str(free_port(taken=[])), "FUNNEL_TOPIC_PREFIX": prefix}

    process, lines = up(started, env)
    end(process, signal.SIGTERM)

    assert not any("PostgreSQL ready" in line for line in lines)
    assert funnel("topics", "check", env=env).returncode == 0
