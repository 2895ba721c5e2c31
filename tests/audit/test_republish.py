"""Republish where the journal has less than was published: erased data, and dropped months."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from audit.outputs import Output
from audit.ranges import Range, RangeDropped
from audit.republish import republish
from audit.seal import seal
from funnel.exits import BAD_DATA
from tests.audit.conftest import Connection, History
from tests.audit.history import EVENT_SOURCE, ORGANIZATIONS
from tests.audit.test_chain import CANDIDATE, erase
from tests.audit.test_ranges import target
from tests.audit.test_retention import Drop, dropping, month, silent
from tests.audit.test_time_travel import environment, funnel
from tests.settling import read_all

__all__ = ["dropping", "environment", "month", "target"]

Kafka = dict[str, Any]


async def test_republish__erased_events_are_tombstones_in_their_places(
    clone: Connection, clone_url: str, history: History, kafka_options: Kafka, target: str
) -> None:
    await erase(clone)
    output = Output(kafka=kafka_options, topics=history.topics, event_source=EVENT_SOURCE)
    changes = history.topics.changes
    total = await clone.fetchval("SELECT sum(change_sequence) FROM lanes")
    sent = await republish(
        clone_url, output, Range(), target, of=frozenset({changes}), report=silent, create=True
    )
    assert sent == total
    erased = f"{ORGANIZATIONS[0]}/{CANDIDATE}".encode()
    before = await read_all(kafka_options, changes, total=total)
    again = await read_all(kafka_options, target, total=total)
    assert sum(record.key == erased for record in again) > 1
    for was, is_now in zip(before, again, strict=True):
        assert (is_now.partition, is_now.key) == (was.partition, was.key)
        headers = dict(is_now.headers)
        for name in ("ce_id", "ce_sequence"):
            assert headers[name] == dict(was.headers)[name]
        if was.key == erased:
            assert (is_now.value, headers["ce_type"]) == (None, b"candidate.erased.v1")
            assert was.value is not None
        else:
            assert (is_now.value, is_now.headers) == (was.value, was.headers)


async def test_republish__dropped_months_are_refused_and_what_is_left_is_sent(
    clone: Connection,
    clone_url: str,
    history: History,
    kafka_options: Kafka,
    environment: dict[str, str],
    month: str,
    dropping: Drop,
    target: str,
) -> None:
    await seal(clone_url, report=silent)
    in_it = await clone.fetchval(f"SELECT min(recorded_at) FROM {month}")
    last = await clone.fetchval(f"SELECT max(result_sequence) FROM {month} WHERE lane = 1")
    await dropping()
    output = Output(kafka=kafka_options, topics=history.topics, event_source=EVENT_SOURCE)

    async def run(asked: Range) -> int:
        return await republish(
            clone_url, output, asked, target, of=frozenset({history.topics.results}),
            report=silent, create=True, resume=True,
        )  # fmt: skip

    for asked in (
        Range(lane=1, first=1),
        Range(lane=1, first=last),
        Range(lane=1, last=last),
        Range(since=in_it),
        Range(until=in_it + timedelta(minutes=1)),
        Range(organization_id=UUID(ORGANIZATIONS[0]), since=in_it),
    ):
        with pytest.raises(RangeDropped, match="only their archives"):
            await run(asked)
    code, lines, errors = await funnel(
        environment, "republish", target, "--lane", "1", "--from-sequence", str(last)
    )
    assert (code, lines) == (BAD_DATA, [])
    assert f"Results 1 to {last} of lane 1 were dropped" in errors
    assert f"Ask from result {last + 1}" in errors

    left = await clone.fetchval("SELECT count(DISTINCT (lane, result_sequence)) FROM journal")
    assert await run(Range(lane=1, first=last + 1)) > 0
    assert await run(Range()) < left
    records = await read_all(kafka_options, target, total=left)
    first = min(
        orjson.loads(record.value)["sequence"] for record in records if record.partition == 1
    )
    assert first == last + 1
    code, lines, _ = await funnel(
        environment, "republish", target, "--events", "results", "--resume"
    )
    assert (code, lines[0].startswith("no events to ")) == (0, True)
