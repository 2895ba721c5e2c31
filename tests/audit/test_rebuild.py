"""The rebuilt state is the state, also while a consumer goes on; what is repaired verifies, and
every reader of results is told."""

import asyncio
import signal
import sys
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
    command,
    commands,
    consumer,
    misplaced,
    send,
    settle,
)  # fmt: skip
from tests.audit.test_time_travel import environment, funnel
from tests.settling import read_all

__all__ = ["environment"]

Kafka = dict[str, Any]
OF_CANDIDATE = f"candidate_id = '{candidate_of(0, 0)}'"


def nobody(_done: int, _total: int) -> None:
    return None


async def run(url: str, *, repair: bool = False, **options: Any) -> Rebuilt:
    if not repair:
        return await rebuild(url, report=nobody, **options)
    async with open_repairer(url, actor="ann") as repairer:
        return await rebuild(url, report=nobody, repair=repairer.repair, **options)


async def fold(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """The state of each candidate, from the journal's changes one by one."""
    states: dict[tuple[str, str], dict[str, Any]] = {}
    for (change,) in await connection.fetch(
        "SELECT change::text FROM journal WHERE change IS NOT NULL ORDER BY lane, change_sequence"
    ):
        data = orjson.loads(change)
        key = data["organization_id"], data["candidate_id"]
        changed = {name: step["to"] for name, step in data["changed"].items()}
        kept = states.get(key, dict.fromkeys(("phone", "pipeline_stage", "rating", "source")))
        states[key] = kept | changed | {"version": data["version"]}
    return states


async def shadow_equals(connection: Connection, states: dict[tuple[str, str], Any]) -> None:
    rows = await connection.fetch("SELECT to_jsonb(c) FROM shadow.candidates AS c")
    assert len(rows) == len(states)
    for (row,) in rows:
        found = orjson.loads(row)
        wanted = states[found["organization_id"], found["candidate_id"]]
        assert {name: found[name] for name in wanted} == wanted


async def test_rebuild__equals_a_fold_of_the_journal_in_python(
    clone: Connection, clone_url: str
) -> None:
    states = await fold(clone)
    rebuilt = await run(clone_url, keep=True)
    assert (rebuilt.findings.listed, rebuilt.candidates) == ([], len(states))
    assert rebuilt.resumed == 0
    await shadow_equals(clone, states)


STOPPED = """
import asyncio, sys, time
import audit.rebuild, audit.shadow

audit.shadow.RANGE_ROWS = 7

def stop_in_the_middle(done, _total):
    if done > 10:
        print(done, flush=True)
        time.sleep(600)

asyncio.run(audit.rebuild.rebuild(sys.argv[1], report=stop_in_the_middle))
"""


async def killed_in_the_middle(url: str) -> None:
    """A rebuild as a process of its own that SIGKILL ends, some ranges of keys loaded."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, url, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert int(await process.stdout.readline()) > 10
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    connection = await asyncpg.connect(url, timeout=10)
    while await connection.fetchval(  # noqa: ASYNC110  its session is about to be noticed as gone
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE application_name = 'funnel rebuild' AND datname = current_database()"
    ):
        await asyncio.sleep(0.01)
    await connection.close(timeout=5)


async def test_rebuild__killed_goes_on_where_it_was_and_ends_equal(
    database_url: str, kafka_options: Kafka, topics: Topics, environment: dict[str, str]
) -> None:
    """Candidates change, come and are erased between the two runs."""
    sent = [each for each in commands() if ORGANIZATIONS[7] not in str(each[1])]
    await settle(database_url, kafka_options, topics, sent, results=len(sent))
    await killed_in_the_middle(database_url)
    owner = await asyncpg.connect(database_url, timeout=10)
    loaded = await owner.fetch("SELECT organization_id, candidate_id FROM shadow.candidates")
    assert 10 < len(loaded) < 21
    about = {
        "organization_id": str(loaded[0][0]), "candidate_id": str(loaded[0][1]), "actor": "ann",
    }  # fmt: skip
    erasure = command("candidate.erase.v1", about | {"reason": "asked"})
    more = [*commands(), erasure]
    async with consumer(database_url, kafka_options, topics):
        await send(kafka_options, topics, more)
        # One result more tells that the erasure is done.
        await read_all(kafka_options, topics.results, total=len(sent) + len(more) + 1)

    states = await fold(owner)
    assert len(states) == 23  # what was erased has no changes any more
    code, lines, errors = await funnel(
        environment | {"DATABASE_URL": database_url}, "rebuild", "--keep", "--json"
    )
    assert (code, errors) == (0, "")
    assert orjson.loads(lines[-1])["summary"]["resumed"] == len(loaded)
    await shadow_equals(owner, states)
    # It is through: the next one begins from nothing.
    assert (await run(database_url)).resumed == 0
    assert await owner.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'shadow'") == 0
    await owner.close(timeout=5)


async def test_rebuild__cut_short_while_it_compares_goes_on_there_and_tells_all_it_has_found(
    clone: Connection, clone_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clone.execute(
        "UPDATE journal SET change = jsonb_set(change::jsonb, '{state,rating}', '\"five\"') "
        f"WHERE {OF_CANDIDATE} AND version = 5"
    )
    await clone.execute(f"UPDATE candidates SET rating = 1 WHERE NOT {OF_CANDIDATE}")
    whole = await run(clone_url)
    monkeypatch.setattr("audit.shadow.RANGE_ROWS", 7)

    def cut(done: int, _total: int) -> None:
        if done > 40:
            raise OSError

    for _ in range(2):
        with pytest.raises(OSError):  # noqa: PT011  it says nothing
            await rebuild(clone_url, report=cut)
    # What has been compared is not looked at again.
    await clone.execute(
        "UPDATE candidates SET source = 'x' WHERE (organization_id, candidate_id) = ("
        "SELECT organization_id, candidate_id FROM candidates ORDER BY 1, 2 LIMIT 1)"
    )
    again = await run(clone_url)
    assert again.resumed == again.candidates == whole.candidates == 23
    assert sorted(map(str, again.findings.listed)) == sorted(map(str, whole.findings.listed))
    assert again.unreadable == whole.unreadable


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE shadow.run SET journal = replace(journal, 'build 1', 'build 0')",
        "INSERT INTO schema_migrations VALUES ('9999_later')",
        (
            "INSERT INTO checkpoints SELECT lane, now(), 'journal_2020_01', 0, 0, 0, now(), now(), "
            "now() FROM lanes LIMIT 1"
        ),
        "UPDATE lanes SET result_sequence = result_sequence - 1, published_result_sequence = 0",
        "TRUNCATE shadow.candidates, shadow.run, shadow.loaded",  # as a crash does
    ],
)
async def test_rebuild__begins_anew_where_the_journal_is_not_the_same(
    clone: Connection, clone_url: str, change: str
) -> None:
    await killed_in_the_middle(clone_url)
    await clone.execute(change)
    rebuilt = await run(clone_url, keep=True)
    assert (rebuilt.resumed, rebuilt.candidates) == (0, 24)
    await shadow_equals(clone, await fold(clone))


async def test_rebuild__begins_anew_when_told_so(clone: Connection, clone_url: str) -> None:
    await killed_in_the_middle(clone_url)
    rebuilt = await run(clone_url, restart=True)
    assert (rebuilt.resumed, rebuilt.candidates) == (0, 24)


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


async def test_rebuild__names_that_alone_are_wrong_are_repaired(
    clone: Connection, clone_url: str, verify_clone: Verify
) -> None:
    """One changed, one missing, one of a candidate that is none, and one of a candidate that
    differs itself, which is told and repaired once."""
    missing, both, stray = candidate_of(1, 1), candidate_of(2, 1), ORGANIZATIONS[0]
    await clone.execute(f"UPDATE candidate_names SET email = 'x' WHERE {OF_CANDIDATE}")
    await clone.execute(f"DELETE FROM candidate_names WHERE candidate_id = '{missing}'")
    await clone.execute(f"UPDATE candidates SET last_name = 'x' WHERE candidate_id = '{both}'")
    await clone.execute("SET session_replication_role = replica")  # past the foreign key
    await clone.execute(
        "INSERT INTO candidate_names SELECT (jsonb_populate_record(n, jsonb_build_object("
        f"'candidate_id', '{stray}'))).* FROM candidate_names AS n WHERE {OF_CANDIDATE}"
    )
    told = (await run(clone_url)).findings.listed
    assert {(each.where.partition(",")[0].rpartition("/")[2], each.found) for each in told} == {
        (candidate_of(0, 0), "another email"), (missing, "no row"), (both, "another value"),
        (stray, "a row without a candidate"),
    }  # fmt: skip

    assert (await run(clone_url, repair=True)).repaired == len(told) == 4
    assert (await run(clone_url)).findings.listed == []
    assert (await verify_clone()).listed == []
    rows = await clone.fetch(
        "SELECT candidate_id, version IS NULL AS stray, details::text AS details "
        "FROM journal WHERE kind = 'repair'"
    )
    assert {
        (str(row["candidate_id"]), row["stray"], *orjson.loads(row["details"])["fields"])
        for row in rows
    } == {
        (candidate_of(0, 0), False), (missing, False), (both, False, "last_name"), (stray, True),
    }  # fmt: skip


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
