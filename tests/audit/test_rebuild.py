"""The rebuilt state is the state, also while a consumer goes on; what is repaired verifies, and
every reader of results is told."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from audit.outputs import Output
from audit.rebuild import RebuildRuns, Rebuilt, rebuild
from audit.repair import open_repairer
from audit.verify import verify
from contract.events import REPAIRED
from contract.schemas import adapter
from contract.topics import Topics
from tests.audit.conftest import Connection, Verify
from tests.audit.history import (
    EVENT_SOURCE,
    ORGANIZATIONS,
    candidate_of,
    commands,
    consumer,
    misplaced,
    send,
    settle,
)  # fmt: skip
from tests.settling import read_all

Kafka = dict[str, Any]
OF_CANDIDATE = f"candidate_id = '{candidate_of(0, 0)}'"


def nobody(_done: int, _total: int) -> None:
    return None


async def run(url: str, *, repair: bool = False, **options: Any) -> Rebuilt:
    if not repair:
        return await rebuild(url, report=nobody, **options)
    async with open_repairer(url, actor="ann") as repairer:
        return await rebuild(url, report=nobody, repair=repairer.repair, **options)


async def test_rebuild__equals_a_fold_of_the_journal_in_python(
    clone: Connection, clone_url: str
) -> None:
    states: dict[tuple[str, str], dict[str, Any]] = {}
    for (change,) in await clone.fetch(
        "SELECT change::text FROM journal WHERE change IS NOT NULL ORDER BY lane, change_sequence"
    ):
        data = orjson.loads(change)
        key = data["organization_id"], data["candidate_id"]
        changed = {name: step["to"] for name, step in data["changed"].items()}
        kept = states.get(key, dict.fromkeys(("phone", "pipeline_stage", "rating", "source")))
        states[key] = kept | changed | {"version": data["version"]}
    rebuilt = await run(clone_url, keep=True)
    assert (rebuilt.findings.listed, rebuilt.candidates) == ([], len(states))
    rows = await clone.fetch("SELECT to_jsonb(c) FROM shadow.candidates AS c")
    assert len(rows) == len(states)
    for (row,) in rows:
        found = orjson.loads(row)
        wanted = states[found["organization_id"], found["candidate_id"]]
        assert {name: found[name] for name in wanted} == wanted


async def test_rebuild__what_differs_is_repaired_and_every_reader_is_told(
    clone: Connection,
    clone_url: str,
    verify_clone: Verify,
) -> None:
    versions = {
        str(row["candidate_id"]): row["version"]
        for row in await clone.fetch("SELECT candidate_id, version FROM candidates")
    }
    await clone.execute(f"UPDATE candidates SET rating = 1, tags = '{{x}}' WHERE {OF_CANDIDATE}")
    await clone.execute(f"DELETE FROM candidates WHERE candidate_id = '{candidate_of(1, 1)}'")
    await clone.execute(
        "INSERT INTO candidates SELECT (jsonb_populate_record(c, jsonb_build_object("
        f"'candidate_id', '{ORGANIZATIONS[0]}'))).* FROM candidates c WHERE {OF_CANDIDATE}"
    )
    found = await run(clone_url)
    assert (found.findings.total, found.repaired) == (4, 0)
    lanes = await clone.fetch("SELECT lane, journal_sequence, result_sequence FROM lanes")

    assert (await run(clone_url, repair=True)).repaired == 3
    assert (await run(clone_url)).findings.listed == []
    assert (await verify_clone()).listed == []
    rows = await clone.fetch(
        "SELECT lane, journal_sequence, result_sequence, candidate_id, actor, version, "
        "details::text AS details FROM journal WHERE kind = 'repair'"
    )
    behind = {row["lane"]: (row["journal_sequence"], row["result_sequence"]) for row in lanes}
    assert all(
        row["journal_sequence"] > behind[row["lane"]][0]
        and row["result_sequence"] > behind[row["lane"]][1]
        for row in rows
    )
    assert {
        str(row["candidate_id"]): (row["actor"], row["version"], orjson.loads(row["details"]))
        for row in rows
    } == {
        candidate_of(0, 0): ("ann", versions[candidate_of(0, 0)], {"fields": ["rating", "tags"]}),
        candidate_of(1, 1): ("ann", versions[candidate_of(1, 1)], {"fields": ["*"]}),
        ORGANIZATIONS[0]: ("ann", None, {"fields": ["*"]}),
    }


async def test_rebuild__state_that_is_none_is_named(clone: Connection, clone_url: str) -> None:
    await clone.execute(
        "UPDATE journal SET change = jsonb_set(change::jsonb, '{state,rating}', '\"five\"') "
        f"WHERE {OF_CANDIDATE} AND version = 5"
    )
    rebuilt = await run(clone_url)
    assert [(each.check, each.found) for each in rebuilt.findings.listed] == [
        ("journal", "SQLSTATE 22P02")
    ]
    assert rebuilt.candidates == 23


async def test_rebuild__one_at_a_time(clone: Connection, clone_url: str) -> None:
    await clone.execute("SELECT pg_advisory_lock(hashtext('gulf-funnel.shadow'))")
    with pytest.raises(RebuildRuns):
        await run(clone_url)


async def test_rebuild__and_repair_while_a_consumer_goes_on(
    database_url: str, kafka_options: Kafka, topics: Topics
) -> None:
    """Ends equal; a repair is published though no command comes, and the numbers have no hole."""
    sent = commands() + misplaced()
    results = len(sent) + len(misplaced())
    await settle(database_url, kafka_options, topics, sent, results=results)
    owner = await asyncpg.connect(database_url, timeout=10)
    async with consumer(database_url, kafka_options, topics):
        more = commands()
        sending = asyncio.create_task(send(kafka_options, topics, more))
        # Over and over, while its commands are settled.
        while not sending.done():
            assert (await run(database_url)).findings.listed == []
        await sending
        await read_all(kafka_options, topics.results, total=results + len(more))
        await owner.execute("UPDATE candidates SET rating = 1, source = 'x'")
        assert (await run(database_url, repair=True)).repaired == 24
        total = await owner.fetchval("SELECT sum(result_sequence) FROM lanes")
        records = await read_all(kafka_options, topics.results, total=int(total))
    told = [
        adapter(REPAIRED).validate_json(record.value)
        for record in records
        if dict(record.headers)["ce_type"] == REPAIRED.encode()
    ]
    assert {each["candidate_id"] for each in told} == {
        candidate_of(organization, number) for organization in range(8) for number in range(3)
    }
    output = Output(kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE)
    findings = await verify(
        database_url, deduplication=timedelta(days=35), report=nobody, output=output
    )
    assert findings.listed == []
    await owner.close(timeout=5)
