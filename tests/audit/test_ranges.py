"""Export and republish: each range is what an independent query says, byte for byte, also after
an interruption."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import cramjam
import orjson
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import InvalidTopicError

from audit.command_records import command_records
from audit.export import ExportRefused, export, manifest_path
from audit.export_file import ExportUnreadable, exported_rows, verify_export
from audit.output_log import TopicMissing
from audit.outputs import Output
from audit.ranges import Range, RangeRefused
from audit.republish import RepublishRefused, republish
from contract.record import unpack
from tests.audit.conftest import Connection, History
from tests.audit.history import EVENT_SOURCE, ORGANIZATIONS, candidate_of
from tests.settling import read_all

Kafka = dict[str, Any]


def nobody(_done: int, _total: int) -> None:
    return None


async def journal(clone: Connection, where: str = "true") -> list[tuple[int, int]]:
    rows = await clone.fetch(
        f"SELECT lane, journal_sequence FROM journal WHERE {where} ORDER BY lane, journal_sequence"
    )
    return [(row[0], row[1]) for row in rows]


def places(path: Path) -> list[tuple[int, int]]:
    return [(row["lane"], row["journal_sequence"]) for rows in exported_rows(path) for row in rows]


async def test_export__each_range_is_what_a_query_says(
    clone: Connection, clone_url: str, tmp_path: Path
) -> None:
    middle = await clone.fetchval(
        "SELECT recorded_at FROM journal ORDER BY recorded_at "
        "OFFSET (SELECT count(*) / 2 FROM journal)"
    )
    organization, candidate = ORGANIZATIONS[2], candidate_of(2, 1)
    home = await clone.fetchval(
        "SELECT lane FROM journal WHERE organization_id = $1 AND kind = 'command' LIMIT 1",
        UUID(organization),
    )
    ranges = {
        "true": Range(),
        f"recorded_at >= '{middle}'": Range(since=middle),
        f"recorded_at < '{middle}'": Range(until=middle),
        "lane = 1 AND result_sequence BETWEEN 3 AND 9": Range(lane=1, first=3, last=9),
        f"organization_id = '{organization}' AND lane = {home}": Range(
            organization_id=UUID(organization)
        ),
        f"candidate_id = '{candidate}' AND lane = {home}": Range(
            organization_id=UUID(organization), candidate_id=UUID(candidate)
        ),
        f"operation_id = '{candidate}'": Range(operation_id=UUID(candidate)),
    }
    for number, (where, asked) in enumerate(ranges.items()):
        path = tmp_path / f"{number}.jsonl.zst"
        manifest = await export(clone_url, asked, path, report=nobody)
        wanted = await journal(clone, where)
        assert places(path) == wanted, where
        assert manifest.rows == len(wanted)
        assert verify_export(path, report=nobody).listed == []
    with pytest.raises(RangeRefused):
        Range(first=1)
    with pytest.raises(ExportRefused):
        await export(clone_url, Range(), path, report=nobody)


async def test_export__cut_short_goes_on_and_is_the_same(
    clone_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.ranges.PAGE_ROWS", 7)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    await export(clone_url, Range(), whole, report=nobody)

    def interrupted(done: int, _total: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export(clone_url, Range(), cut, report=interrupted)
    assert [each.found for each in verify_export(cut, report=nobody).listed] == [
        "one that was cut short"
    ]
    with cut.open("ab") as file:
        file.write(b"half a frame")
    with pytest.raises(ExportRefused):
        await export(clone_url, Range(lane=1), cut, report=nobody, resume=True)
    await export(clone_url, Range(), cut, report=nobody, resume=True)
    assert cut.read_bytes() == whole.read_bytes()
    assert manifest_path(cut).read_bytes() == manifest_path(whole).read_bytes()


async def test_export__tampering_is_found_offline(
    clone_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.ranges.PAGE_ROWS", 20)
    path = tmp_path / "export"
    await export(clone_url, Range(), path, report=nobody)
    good, beside = path.read_bytes(), manifest_path(path)
    manifest = orjson.loads(beside.read_bytes())

    def found() -> set[str]:
        return {each.where for each in verify_export(path, report=nobody).listed}

    path.write_bytes(good[:-5])
    assert found() >= {f"chunk {len(manifest['chunks']) - 1}", "file"}
    path.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    assert "chunk 0" in found()
    path.write_bytes(good)
    # A row less, with a frame and a hash that fit.
    first = manifest["chunks"][1]
    lines = bytes(cramjam.zstd.decompress(good[first["start"] : first["start"] + first["bytes"]]))
    beside.write_bytes(orjson.dumps(manifest | {"chunks": manifest["chunks"][:1]}))
    assert {"file", "manifest"} <= found()
    assert lines.count(b"\n") == first["rows"]
    beside.write_bytes(orjson.dumps(manifest | {"counts": {"command": 1}}))
    assert found() == {"manifest"}
    beside.write_bytes(b"{}")
    with pytest.raises(ExportUnreadable):
        verify_export(path, report=nobody)


async def test_export__with_each_command_as_received(
    clone_url: str, history: History, kafka_options: Kafka, tmp_path: Path
) -> None:
    sent = {
        (record.partition, record.offset): record
        for record in await read_all(
            kafka_options, history.topics.commands, total=history.commands_total
        )
    }
    path = tmp_path / "export"
    async with command_records(kafka_options, history.topics.commands) as records:
        await export(clone_url, Range(), path, report=nobody, commands=records.of)
    from base64 import b64decode

    rows = [row for rows in exported_rows(path) for row in rows]
    rows = [row for row in rows if row["kind"] not in ("item", "progress", "completed")]
    assert len(rows) == len(sent)
    for row in rows:
        record = sent[row["lane"], row["source_offset"]]
        assert unpack(b64decode(row["command"]))[:3] == (
            record.key, record.value, tuple(record.headers),
        )  # fmt: skip


@pytest.fixture
async def target(kafka_options: Kafka, history: History) -> AsyncIterator[str]:
    """The name of a topic that is not there yet, and how those of others begin."""
    name = f"{history.topics.prefix}again"
    yield name
    admin = AIOKafkaAdminClient(**kafka_options)
    await admin.start()
    await admin.delete_topics([each for each in await admin.list_topics() if each.startswith(name)])
    await admin.close()


async def test_republish__byte_for_byte_also_after_an_interruption(
    clone: Connection,
    clone_url: str,
    history: History,
    kafka_options: Kafka,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audit.republish.TRANSACTION_ROWS", 5)
    topics = history.topics
    output = Output(kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE)

    async def run(**options: Any) -> int:
        wanted: dict[str, Any] = {"of": frozenset({topics.changes}), "report": nobody, **options}
        return await republish(clone_url, output, Range(), wanted.pop("to", target), **wanted)

    for live in topics.specs():
        with pytest.raises(RepublishRefused):
            await run(to=live.name)
    with pytest.raises(TopicMissing):
        await run()
    with pytest.raises(InvalidTopicError):
        await run(to="no name", create=True)

    def interrupted(done: int, _total: int) -> None:
        if done > 40:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run(create=True, report=interrupted)
    with pytest.raises(RepublishRefused, match="--resume"):
        await run()
    started = time.monotonic()
    sent = await run(resume=True, rate=400)
    assert 0 < sent / 400 <= time.monotonic() - started
    assert await run(resume=True) == 0

    total = await clone.fetchval("SELECT sum(change_sequence) FROM lanes")

    async def records(topic: str) -> list[tuple[Any, ...]]:
        return [
            (record.partition, record.key, record.value, record.headers, record.timestamp)
            for record in await read_all(kafka_options, topic, total=total)
        ]

    assert await records(target) == await records(topics.changes)


async def test_republish__each_range_is_what_a_query_says(
    clone: Connection, clone_url: str, history: History, kafka_options: Kafka, target: str
) -> None:
    topics = history.topics
    output = Output(kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE)
    middle = await clone.fetchval(
        "SELECT recorded_at FROM journal WHERE change_sequence IS NOT NULL "
        "ORDER BY recorded_at OFFSET (SELECT count(change_sequence) / 2 FROM journal)"
    )
    ((organization, operation),) = await clone.fetch(
        "SELECT organization_id, operation_id FROM bulk_operations WHERE applied > 0 LIMIT 1"
    )
    candidate = UUID(candidate_of(2, 1))
    ranges = {
        f"recorded_at >= '{middle}'": Range(since=middle),
        f"recorded_at < '{middle}'": Range(until=middle),
        "lane = 1 AND result_sequence BETWEEN 3 AND 9": Range(lane=1, first=3, last=9),
        f"organization_id = '{organization}'": Range(organization_id=organization),
        f"candidate_id = '{candidate}'": Range(
            organization_id=UUID(ORGANIZATIONS[2]), candidate_id=candidate
        ),
        f"operation_id = '{operation}'": Range(operation_id=operation),
    }
    total = await clone.fetchval("SELECT sum(change_sequence) FROM lanes")
    live = {
        dict(record.headers)["ce_id"]: (record.partition, record.key, record.value, record.headers)
        for record in await read_all(kafka_options, topics.changes, total=total)
    }
    for number, (where, asked) in enumerate(ranges.items()):
        wanted = [
            live[f"{topics.changes}/{row['lane']}/{row['change_sequence']}".encode()]
            for row in await clone.fetch(
                f"SELECT lane, change_sequence FROM journal WHERE {where} "
                "AND change_sequence IS NOT NULL ORDER BY lane, change_sequence"
            )
        ]
        again = f"{target}-{number}"
        sent = await republish(
            clone_url, output, asked, again, of=frozenset({topics.changes}), report=nobody,
            create=True,
        )  # fmt: skip
        assert sent == len(wanted) > 0, where
        assert [
            (record.partition, record.key, record.value, record.headers)
            for record in sorted(
                await read_all(kafka_options, again, total=sent),
                key=lambda record: (record.partition, record.offset),
            )
        ] == wanted, where


STOPPED = """
import asyncio, sys, time
import audit.republish
from audit.outputs import Output
from audit.ranges import Range
from contract.topics import Topics

audit.republish.TRANSACTION_ROWS = 5
url, servers, prefix, source, target = sys.argv[1:]
topics = Topics(prefix)
output = Output(kafka={"bootstrap_servers": servers}, topics=topics, event_source=source)

def stop_in_the_middle(done, _total):
    if done > 40:
        print(done, flush=True)
        time.sleep(600)

asyncio.run(audit.republish.republish(
    url, output, Range(), target, of=frozenset({topics.results}), report=stop_in_the_middle,
    create=True))
"""


async def test_republish__killed_goes_on_and_the_topic_has_each_event_once(
    clone: Connection, clone_url: str, history: History, kafka_options: Kafka, target: str
) -> None:
    topics = history.topics
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPED, clone_url, kafka_options["bootstrap_servers"],
        topics.prefix, EVENT_SOURCE, target, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert int(await process.stdout.readline()) > 40
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    output = Output(kafka=kafka_options, topics=topics, event_source=EVENT_SOURCE)
    wanted: dict[str, Any] = {"of": frozenset({topics.results}), "report": nobody}
    sent = await republish(clone_url, output, Range(), target, resume=True, **wanted)
    total = await clone.fetchval("SELECT sum(result_sequence) FROM lanes")
    assert 0 < sent < total - 40

    async def records(topic: str) -> list[tuple[Any, ...]]:
        return [
            (record.partition, record.key, record.value, record.headers, record.timestamp)
            for record in sorted(
                await read_all(kafka_options, topic, total=total),
                key=lambda record: (record.partition, record.offset),
            )
        ]

    assert await records(target) == await records(topics.results)
