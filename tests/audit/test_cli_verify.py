"""`funnel verify` as a process: what it prints, and its exit codes (CONTRACT.md 7)."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from stack.servers import Servers
from tests.audit.conftest import Connection, History
from tests.audit.history import EVENT_SOURCE
from tests.conftest import url_of

FUNNEL = Path(sys.executable).with_name("funnel")
Run = Callable[..., Awaitable[tuple[int, list[str], str]]]


@pytest.fixture
def funnel_verify(servers: Servers, history: History, clone_url: str, tmp_path: Path) -> Run:
    """Exit code, lines and error output."""

    async def run(*options: str, **environment: str) -> tuple[int, list[str], str]:
        process = await asyncio.create_subprocess_exec(
            FUNNEL,
            "verify",
            *options,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                "DATABASE_URL": clone_url,
                "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
                "FUNNEL_TOPIC_PREFIX": history.topics.prefix,
                "FUNNEL_EVENT_SOURCE": EVENT_SOURCE,
            }
            | environment,
        )
        out, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode().splitlines(), errors.decode()

    return run


async def test_funnel_verify__clean(funnel_verify: Run, history: History) -> None:
    code, lines, errors = await funnel_verify("--topics")
    assert code == 0, errors
    (line,) = lines
    assert line.startswith("no differences in ")
    assert f"{history.rows_total} journal rows" in line
    assert "24 candidates" in line


async def test_funnel_verify__differences_one_a_line(funnel_verify: Run, clone: Connection) -> None:
    await clone.execute("UPDATE candidates SET last_name = 'Secret', rating = 1")
    code, lines, _ = await funnel_verify()
    assert code == 65
    assert lines[0].startswith("state: candidate ")
    assert lines[-1].startswith("72 differences in ")
    assert "Secret" not in "".join(lines)

    code, lines, _ = await funnel_verify("--json", "--show-values")
    assert code == 65
    *differences, summary = map(orjson.loads, lines)
    assert {"check", "where", "expected", "found"} == set(differences[0])
    assert "Secret" in {each["found"] for each in differences}
    assert summary["summary"]["differences"] == len(differences) == 72


async def test_funnel_verify__dependency_away(funnel_verify: Run) -> None:
    code, lines, errors = await funnel_verify(DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    assert (code, lines, len(errors.splitlines())) == (69, [], 1)
    code, lines, errors = await funnel_verify("--topics", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert (code, lines, len(errors.splitlines())) == (69, [], 1)


async def test_funnel_verify__database_or_topics_not_prepared(
    funnel_verify: Run, servers: Servers, clone: Connection
) -> None:
    code, _, errors = await funnel_verify("--topics", FUNNEL_TOPIC_PREFIX="absent.")
    assert (code, "funnel topics check" in errors) == (78, True)
    await clone.execute("REVOKE SELECT ON candidates FROM funnel_audit")
    code, _, errors = await funnel_verify()
    assert (code, "candidates" in errors, "funnel migrate up" in errors) == (78, True, True)
    code, _, errors = await funnel_verify(DATABASE_URL=url_of(servers, "postgres"))
    assert (code, "funnel migrate up" in errors) == (78, True)
