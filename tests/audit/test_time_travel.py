"""Time travel, history and `explain`, against the journal of a real history."""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from audit.explain import explain
from audit.outputs import Output
from stack.servers import Servers
from tests.audit.conftest import Connection, History
from tests.audit.history import EVENT_SOURCE, ORGANIZATIONS, candidate_of
from tests.settling import read_all

FUNNEL = Path(sys.executable).with_name("funnel")
ORGANIZATION, CANDIDATE = ORGANIZATIONS[0], candidate_of(0, 0)


@pytest.fixture
def environment(
    servers: Servers, history: History, clone_url: str, tmp_path: Path
) -> dict[str, str]:
    return {
        "DATABASE_URL": clone_url,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "FUNNEL_TOPIC_PREFIX": history.topics.prefix,
        "FUNNEL_EVENT_SOURCE": EVENT_SOURCE,
        "FUNNEL_DATA_DIR": str(tmp_path),
    }


async def funnel(environment: dict[str, str], *arguments: str) -> tuple[int, list[str], str]:
    """Exit code, lines, and error output."""
    process = await asyncio.create_subprocess_exec(
        FUNNEL, *arguments, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), errors.decode()


async def versions(clone: Connection) -> list[asyncpg.Record]:
    return await clone.fetch(
        "SELECT version, recorded_at, change::text FROM journal WHERE organization_id = $1 "
        "AND candidate_id = $2 AND change IS NOT NULL ORDER BY version",
        UUID(ORGANIZATION), UUID(CANDIDATE),
    )  # fmt: skip


async def test_get__as_it_was_at_a_version_and_at_an_instant(
    environment: dict[str, str], clone: Connection
) -> None:
    rows = await versions(clone)
    get = ("get", CANDIDATE, "--organization", ORGANIZATION, "--json")
    third = rows[2]
    code, lines, errors = await funnel(environment, *get, "--version", "3")
    assert (code, errors) == (0, "")
    assert orjson.loads(lines[0]) == orjson.loads(third["change"])["state"]

    newest_then = [row for row in rows if row["recorded_at"] <= third["recorded_at"]][-1]
    _, lines, _ = await funnel(environment, *get, "--as-of", third["recorded_at"].isoformat())
    assert orjson.loads(lines[0]) == orjson.loads(newest_then["change"])["state"]
    before = rows[0]["recorded_at"] - timedelta(microseconds=1)
    code, lines, errors = await funnel(environment, *get, "--as-of", before.isoformat())
    assert (code, lines, "no candidate" in errors) == (65, [], True)
    code, _, _ = await funnel(environment, *get, "--as-of", "yesterday")
    assert code == 2


async def test_history__who_what_by_which_command_when(
    environment: dict[str, str], clone: Connection
) -> None:
    rows = await versions(clone)
    history = ("history", CANDIDATE, "--organization", ORGANIZATION)
    code, lines, errors = await funnel(environment, *history, "--json")
    assert (code, errors) == (0, "")
    steps = [orjson.loads(line) for line in lines]
    assert [step["version"] for step in steps] == [row["version"] for row in reversed(rows)]
    for step, row in zip(steps, reversed(rows), strict=True):
        data = orjson.loads(row["change"])
        assert {name: step[name] for name in ("changed", "actor", "command_id", "recorded_at")} == {
            name: data[name] for name in ("changed", "actor", "command_id", "recorded_at")
        }
    _, lines, _ = await funnel(environment, *history, "--limit", "1")
    assert lines[0].startswith(f"version {rows[-1]['version']}, ")
    assert " → " in lines[1]
    code, _, _ = await funnel(environment, "history", ORGANIZATION, "--organization", ORGANIZATION)
    assert code == 65


async def test_explain__every_arrival_with_its_events_where_they_lie(
    environment: dict[str, str], history: History, servers: Servers, clone: Connection
) -> None:
    command = ("explain", "create 0 0", "--organization", ORGANIZATION)
    code, lines, errors = await funnel(environment, *command, "--json")
    assert (code, errors) == (0, "")
    first, second = (orjson.loads(line) for line in lines)
    assert (first["outcome"], first["version"]) == ("applied", 1)
    assert second["outcome"] == "duplicate"
    assert second["received"]["offset"] == first["received"]["offset"] + 1
    assert first["received"]["topic"] == history.topics.commands
    kafka = {"bootstrap_servers": servers.kafka_bootstrap_servers}
    changes_total = await clone.fetchval("SELECT sum(change_sequence) FROM lanes")
    written = {
        dict(record.headers)["ce_id"].decode(): record.offset
        for topic, total in (
            (history.topics.results, history.results_total),
            (history.topics.changes, changes_total),
        )
        for record in await read_all(kafka, topic, total=total)
    }
    events = first["events"] + second["events"]
    assert len(events) == 3
    assert all(written[event["event_id"]] == event["offset"] for event in events)

    code, lines, _ = await funnel(environment, *command, "--no-offsets")
    assert code == 0
    assert "Zoë" not in "".join(lines)
    code, _, _ = await funnel(environment, "explain", "unknown", "--organization", ORGANIZATION)
    assert code == 65


async def test_explain__the_version_that_a_command_saw(clone: Connection, history: History) -> None:
    output = Output(
        kafka={}, topics=history.topics, event_source=EVENT_SOURCE, dead_letters_kept=timedelta(1)
    )
    commands = await clone.fetch(
        "SELECT command_id FROM journal WHERE organization_id = $1 AND candidate_id = $2 "
        "AND kind = 'command' AND actor <> 'bob' ORDER BY journal_sequence",
        UUID(ORGANIZATION), UUID(CANDIDATE),
    )  # fmt: skip
    seen = [
        (each.told["outcome"], each.told.get("version_seen"), each.told.get("version"))
        for command_id in dict.fromkeys(row["command_id"] for row in commands)
        for each in await explain(
            clone, output, organization_id=UUID(ORGANIZATION), command_id=command_id
        )
    ]
    assert seen == [
        ("applied", None, 1),
        ("duplicate", None, None),
        ("applied", 1, 2),
        ("unchanged", 2, None),
        ("merged", 2, 3),
        ("rejected", 3, None),
        ("applied", 3, 4),
    ]
