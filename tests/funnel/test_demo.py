"""Demo data: what the generator makes is valid, varied and repeatable, and loads once."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from contract.envelope import Envelope
from contract.topics import Topics
from domain.commands import CommandParser, InvalidCommand
from funnel import demo
from funnel.demo import Trickle, first_candidate, load_candidates, run_demo
from funnel.demo_people import ORGANIZATIONS_TOTAL, People
from producer.client import CommandClient, OutgoingCommand
from tests.settling import Settler

Kafka = dict[str, Any]


class Memory:
    """Settles as the service does where the demo can tell: existence, versions, repeats."""

    def __init__(self) -> None:
        self.versions: dict[str, int] = {}
        self.settled: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()

    def verdict(self, envelope: Envelope) -> dict[str, Any]:
        verdict = self._verdict(envelope)
        self.outcomes[verdict.get("reason") or verdict["outcome"]] += 1
        return verdict

    def _verdict(self, envelope: Envelope) -> dict[str, Any]:
        self.settled[envelope.command_id] += 1
        candidate_id = envelope.data["candidate_id"]
        version = self.versions.get(candidate_id)
        expected = envelope.data.get("expected_version")
        if self.settled[envelope.command_id] > 1:
            return {"outcome": "duplicate"}
        if envelope.type == "candidate.update.v1" and version is None:
            return {"outcome": "rejected", "reason": "not_found"}
        if expected is not None and expected != version:
            details = {"current_version": version}
            return {"outcome": "rejected", "reason": "version_conflict", "details": details}
        self.versions[candidate_id] = (version or 0) + 1
        return {"outcome": "applied", "version": self.versions[candidate_id]}


def test_people__valid_repeatable_and_in_every_organization() -> None:
    parser = CommandParser()
    organizations: Counter[str] = Counter()
    emails = set()
    for number in range(1000):
        organization_id, candidate_id = People(7).key(number)
        candidate = People(7).candidate(number)
        organizations[organization_id] += 1
        emails.add(candidate["email"])
        parser.parse(
            "candidate.create.v1",
            {
                "organization_id": organization_id,
                "candidate_id": candidate_id,
                "actor": "demo",
                "candidate": candidate,
            },
        )
    assert People(7).candidate(3) == People(7).candidate(3) != People(8).candidate(3)
    assert len(organizations) == ORGANIZATIONS_TOTAL
    assert len(emails) == 1000


def test_first_candidate__is_one_that_is_created() -> None:
    assert first_candidate(7) == People(7).key(0)


def test_trickle__every_kind_of_command_and_a_few_mistakes() -> None:
    trickle, parser = Trickle(candidates_total=50, seed=7), CommandParser()
    seen: Counter[str] = Counter()
    previous: OutgoingCommand | None = None
    for _ in range(2000):
        command = trickle.next_command()
        seen["resent"] += command is previous
        seen[command.type] += 1
        seen[command.data.get("on_conflict", "")] += 1
        try:
            parser.parse(command.type, command.data)
        except InvalidCommand:
            seen["invalid"] += 1
        trickle.learn(command, {"candidate_id": command.data["candidate_id"], "version": 4})
        previous = command
    assert seen["invalid"] < 100
    assert {"resent", "invalid", "candidate.create.v1", "merge", "overwrite"} <= set(+seen)


async def test_load_candidates__a_second_time_sends_nothing(
    kafka_options: Kafka, topics: Topics
) -> None:
    memory, stop, lines = Memory(), asyncio.Event(), list[str]()
    async with (
        Settler(kafka_options, topics, memory.verdict),
        CommandClient(kafka=kafka_options, source="/demo", topics=topics) as client,
    ):
        sent = [
            await load_candidates(
                client=client, candidates_total=300, seed=7, stop=stop, report=lines.append
            )
            for _ in range(2)
        ]
    assert sent == [300, 0]
    assert len(memory.versions) == 300
    assert lines == ["demo: 300 of 300 candidates", "demo: 300 candidates are there"]


async def test_load_candidates__after_an_interrupted_load_creates_each_once(
    kafka_options: Kafka, topics: Topics
) -> None:
    memory, stop = Memory(), asyncio.Event()
    async with (
        Settler(kafka_options, topics, memory.verdict),
        CommandClient(kafka=kafka_options, source="/demo", topics=topics) as client,
    ):
        for candidates_total in (100, 300):
            await load_candidates(
                client=client,
                candidates_total=candidates_total,
                seed=7,
                stop=stop,
                report=lambda _line: None,
            )
    assert memory.outcomes["duplicate"] == 100
    assert set(memory.versions.values()) == {1}
    assert len(memory.versions) == 300


async def test_run_demo__trickles_until_stopped(kafka_options: Kafka, topics: Topics) -> None:
    memory, stop = Memory(), asyncio.Event()

    def until_enough(envelope: Envelope) -> dict[str, Any]:
        verdict = memory.verdict(envelope)
        if memory.outcomes["applied"] > 60:
            stop.set()
        return verdict

    async with (
        Settler(kafka_options, topics, until_enough),
        CommandClient(kafka=kafka_options, source="/demo", topics=topics) as client,
    ):
        await run_demo(
            client=client,
            candidates_total=50,
            seed=7,
            stop=stop,
            report=lambda _line: None,
            commands_per_second=1000,
        )
    assert max(memory.versions.values()) > 1


async def test_run_demo__goes_on_when_nobody_answers_and_tells_now_and_then(
    kafka_options: Kafka, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_RESULT_SECONDS", 0.2)
    monkeypatch.setattr(demo, "_REPORT_EVERY_COMMANDS", 20)
    memory, stop, lines = Memory(), asyncio.Event(), list[str]()
    trickled = 0

    def sometimes(envelope: Envelope) -> dict[str, Any]:
        nonlocal trickled
        verdict = memory.verdict(envelope)
        trickled += len(memory.versions) >= 50
        return {} if trickled in (3, 5) else verdict

    def report(line: str) -> None:
        lines.append(line)
        if "applied" in line:
            stop.set()

    async with (
        Settler(kafka_options, topics, sometimes),
        CommandClient(kafka=kafka_options, source="/demo", topics=topics) as client,
    ):
        await run_demo(
            client=client,
            candidates_total=50,
            seed=7,
            stop=stop,
            report=report,
            commands_per_second=1000,
        )
    assert [line for line in lines if "is not settled yet" in line and "goes on" in line]
    assert "applied" in lines[-1]
