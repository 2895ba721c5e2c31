"""This build settles a real history as it was settled; another one's differences are named."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.command_records import command_records
from audit.database import open_audit
from audit.export import export
from audit.export_file import exported_pages
from audit.findings import Findings, Meter
from audit.ranges import Range, pages, spans_of
from contract.topics import Topics
from domain.commands import CommandParser
from domain.decide import Decision, decide
from funnel.replaying import Replay, Rules, open_replay, replay_export
from tests.audit.conftest import Connection, History
from tests.audit.history import ORGANIZATIONS, candidate_of, command, commands, settle
from tests.conftest import PARTITIONS_TOTAL

Kafka = dict[str, Any]


def nobody(_done: int, _total: int) -> None:
    return None


async def run(
    url: str, topics: Topics, kafka: Kafka, asked: Range, *, exported: Path | None = None
) -> Findings:
    findings = Findings()
    rules = Rules(
        topics=topics,
        parser=CommandParser(phone_region=None),
        deduplication=timedelta(days=35),
        chunk_items=1000,
        partitions_total=PARTITIONS_TOTAL,
    )
    shadow = await open_replay(url)
    replay = Replay(shadow, rules, findings)
    if exported is not None:
        await replay_export(replay, exported_pages(exported), Meter(1, nobody))
    else:
        async with (
            open_audit(url) as connection,
            command_records(kafka, topics.commands) as records,
        ):
            for span in await spans_of(connection, asked):
                meter = Meter(1, nobody)
                await replay.run(
                    pages(connection, asked, span), records.of, meter, first=span.first
                )
    await shadow.close(timeout=5)
    return findings


async def test_replay_diff__the_same_build_decides_the_same(
    clone: Connection, clone_url: str, history: History, kafka_options: Kafka, tmp_path: Path
) -> None:
    before = await clone.fetch("SELECT * FROM lanes ORDER BY lane")
    whole = await run(clone_url, history.topics, kafka_options, Range())
    assert whole.listed == []
    assert whole.rows["commands"] + whole.rows["commands left out"] == history.commands_total
    assert whole.rows["left out: bulk-operation.control.v1"] == 1
    assert whole.rows["of the background: item"] == 3
    # From the middle of a lane on, its state and identities are those of before.
    last = before[1]["result_sequence"]
    window = Range(lane=1, first=last // 2, last=last - 1)
    again = await run(clone_url, history.topics, kafka_options, window)
    assert (again.listed, again.rows["commands"] > 5) == ([], True)
    path = tmp_path / "export"
    async with command_records(kafka_options, history.topics.commands) as records:
        await export(clone_url, window, path, report=nobody, commands=records.of)
    exported = await run(clone_url, history.topics, kafka_options, window, exported=path)
    assert (exported.listed, exported.rows) == ([], again.rows)
    assert await clone.fetch("SELECT * FROM lanes ORDER BY lane") == before


async def test_replay_diff__tells_what_it_leaves_out_by_type(
    database_url: str, kafka_options: Kafka, topics: Topics
) -> None:
    about = {"organization_id": ORGANIZATIONS[0], "actor": "ann"}
    of_candidate = about | {"candidate_id": candidate_of(0, 0)}
    control = about | {"operation_id": candidate_of(0, 0), "action": "pause"}
    sent = [
        *commands()[:7],
        command("candidate.erase.v1", of_candidate | {"reason": "asked"}),
        command("bulk-operation.control.v1", control),
        *commands()[7:9],
    ]
    await settle(database_url, kafka_options, topics, sent, results=len(sent) + 1)
    findings = await run(database_url, topics, kafka_options, Range())
    assert (findings.listed, dict(findings.rows)) == (
        [],
        {
            "commands": 2,
            "commands left out": 9,
            "left out: candidate erased since": 7,
            "left out: candidate.erase.v1": 1,
            "left out: bulk-operation.control.v1": 1,
            "rows of the background": 1,
            "of the background: erased": 1,
        },
    )


async def test_replay_diff__another_build_is_told_where_it_differs(
    clone_url: str, history: History, kafka_options: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*arguments: Any, **options: Any) -> Decision:
        decision = decide(*arguments, **options)
        verdicts = [
            verdict._replace(outcome="applied") if verdict.outcome == "merged" else verdict
            for verdict in decision.verdicts
        ]
        return decision._replace(verdicts=verdicts)

    monkeypatch.setattr("consumer.apply.decide", other)
    findings = await run(clone_url, history.topics, kafka_options, Range())
    assert {(each.check, each.expected, each.found) for each in findings.listed} == {
        ("replay", "merged", "applied")
    }
    assert findings.total == 24
    assert all(each.where.endswith(", outcome") for each in findings.listed)


async def test_replay_diff__record_that_was_tampered_with_is_told(
    clone: Connection, clone_url: str, history: History, kafka_options: Kafka
) -> None:
    await clone.execute(
        "UPDATE journal SET outcome = 'unchanged' WHERE lane = 1 AND outcome = 'merged'"
    )
    findings = await run(clone_url, history.topics, kafka_options, Range(lane=1))
    assert {each.expected for each in findings.listed} == {"unchanged"}
