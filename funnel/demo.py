"""Demo data by the front door: candidates through the commands topic, then a live trickle.

The candidates' ids and the ids of the commands that create them follow from the seed, so loading
them again, or after a crash, has no second effect.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from random import Random
from typing import Any
from uuid import UUID, uuid4, uuid5

from funnel.demo_people import (
    DEPARTMENTS,
    ORGANIZATIONS_TOTAL,
    REGIONS,
    STEPS,
    People,
    phone,
    stage,
)
from producer.client import CommandClient, CommandError, OutgoingCommand

SOURCE = "/gulf-funnel/demo"
COMMANDS_PER_SECOND = 5.0
"""Enough to see something move, little enough to read along."""

_COMMAND_NAMESPACE = UUID("b3d1f0a4-0c1d-5e57-8a31-7d6f52a9c0de")
_ACTORS = ("recruiter@example.com", "sourcer@example.com", "hiring.manager@example.com")
# A laptop that has just started both servers is slow: a guess with a wide margin.
_LOAD_SECONDS = 60.0
_RESULT_SECONDS = 10.0
_REPORT_EVERY_RESULTS = 2000
_REPORT_EVERY_COMMANDS = 300
_REMEMBERED_MAX = 500

Report = Callable[[str], None]
Key = tuple[str, str]


def first_candidate(seed: int) -> Key:
    """`(organization_id, candidate_id)` of a candidate that is there once the demo is loaded."""
    return People(seed).key(0)


async def run_demo(
    *,
    client: CommandClient,
    candidates_total: int,
    seed: int,
    stop: asyncio.Event,
    report: Report,
    commands_per_second: float = COMMANDS_PER_SECOND,
) -> None:
    """Create the candidates unless they are there, then change some of them until `stop` is set.

    Args:
        report: takes lines of progress, for people.

    Raises:
        CommandError: Kafka or the consumer is away while loading. The trickle goes on by itself.
    """
    await load_candidates(
        client=client, candidates_total=candidates_total, seed=seed, stop=stop, report=report
    )
    trickle = Trickle(candidates_total=candidates_total, seed=seed)
    outcomes: Counter[str] = Counter()
    while not await _stopped(stop, seconds=1 / commands_per_second):
        command = trickle.next_command()
        try:
            result = await client.send(command, wait=_RESULT_SECONDS)
        except CommandError as error:
            outcomes["unanswered"] += 1
            if outcomes["unanswered"] == 1:
                report(f"demo: {error} The demo goes on.")
            continue
        trickle.learn(command, result.data)
        outcomes[result.reason or result.outcome] += 1
        if outcomes.total() % _REPORT_EVERY_COMMANDS == 0:
            report("demo: " + ", ".join(f"{n:,} {name}" for name, n in outcomes.most_common()))
            outcomes.clear()


async def load_candidates(
    *, client: CommandClient, candidates_total: int, seed: int, stop: asyncio.Event, report: Report
) -> int:
    """Create the candidates of `seed`; returns how many commands that took, 0 if all are there."""
    people = People(seed)
    if await _all_there(client, people, candidates_total):
        report(f"demo: {candidates_total:,} candidates are there")
        return 0
    settled = 0
    creates = client.send_many(_creates(people, candidates_total), wait=_LOAD_SECONDS)
    async with aclosing(creates) as results:
        async for _ in results:
            settled += 1
            if settled % _REPORT_EVERY_RESULTS == 0 or settled == candidates_total:
                report(f"demo: {settled:,} of {candidates_total:,} candidates")
            if stop.is_set():
                break
    return settled


def _creates(people: People, candidates_total: int) -> Iterator[OutgoingCommand]:
    for number in range(candidates_total):
        organization_id, candidate_id = people.key(number)
        yield OutgoingCommand.create(
            organization_id=organization_id,
            candidate_id=candidate_id,
            candidate=people.candidate(number),
            actor=_ACTORS[number % len(_ACTORS)],
            id=str(uuid5(_COMMAND_NAMESPACE, candidate_id)),
            source=SOURCE,
        )


async def _all_there(client: CommandClient, people: People, candidates_total: int) -> bool:
    """Ask for the last candidate of each organization: each organization is loaded in order.

    To ask is to expect a version that no candidate has: `not_found` or `version_conflict`, and
    never an effect.
    """
    last: dict[str, str] = {}
    for number in reversed(range(candidates_total)):
        last.setdefault(*people.key(number))
        if len(last) == ORGANIZATIONS_TOTAL:
            break
    questions = [
        OutgoingCommand.update(
            organization_id=organization_id,
            candidate_id=candidate_id,
            changes={"status": "new"},
            actor=_ACTORS[0],
            expected_version=2**62,
            source=SOURCE,
        )
        for organization_id, candidate_id in last.items()
    ]
    answers = client.send_many(questions, wait=_LOAD_SECONDS)
    return all([answer.reason == "version_conflict" async for answer in answers])


class Trickle:
    """What a day at five companies looks like: mostly moves, some quarrels, some mistakes."""

    def __init__(self, *, candidates_total: int, seed: int) -> None:
        self._people = People(seed)
        self._candidates_total = candidates_total
        self._choice = Random(f"{seed}/trickle")
        self._versions: dict[Key, int] = {}
        self._previous: OutgoingCommand | None = None
        # How to make a command, and how often.
        self._kinds: dict[Callable[[Key], OutgoingCommand], int] = {
            self._move: 30,
            self._rate: 20,
            self._tag: 15,
            self._annotate: 15,
            self._correct_contact: 5,
            self._merge: 6,
            self._quarrel: 4,
            self._mistake: 3,
            self._newcomer: 3,
            self._stranger: 1,
            self._resend: 2,
        }

    def next_command(self) -> OutgoingCommand:
        """One more command, with a fresh id unless it repeats the previous one."""
        make = self._choice.choices(list(self._kinds), list(self._kinds.values()))[0]
        command = make(self._anybody())
        self._previous = command
        return command

    def learn(self, command: OutgoingCommand, result: Mapping[str, Any]) -> None:
        """Remember the version that a result tells, for expected versions."""
        version = result.get("version") or result.get("current_version")
        if version is None or "candidate_id" not in result:
            return
        key = (str(command.data["organization_id"]), str(result["candidate_id"]))
        self._versions.pop(key, None)
        self._versions[key] = version
        if len(self._versions) > _REMEMBERED_MAX:
            del self._versions[next(iter(self._versions))]

    def _anybody(self) -> Key:
        if self._versions and self._choice.random() < 0.5:
            return self._choice.choice(list(self._versions))
        return self._people.key(self._choice.randrange(self._candidates_total))

    def _move(self, key: Key) -> OutgoingCommand:
        status = self._choice.choice(list(STEPS))
        path = stage(self._choice, self._choice.choice(DEPARTMENTS), status)
        return self._update(
            key,
            {"status": status, "pipeline_stage": path},
            expected_version=self._versions.get(key),
        )

    def _rate(self, key: Key) -> OutgoingCommand:
        return self._update(key, {"rating": self._choice.choice((None, 1, 2, 3, 4, 5))})

    def _tag(self, key: Key) -> OutgoingCommand:
        skills = self._choice.choice(DEPARTMENTS).skills
        added, removed = self._choice.sample(skills, k=2)
        return self._update(key, {"tags": {"add": [added], "remove": [removed]}})

    def _annotate(self, key: Key) -> OutgoingCommand:
        days = self._choice.choice((None, 0, 14, 30, 60, 90))
        salary = {"amount": self._choice.randrange(40_000, 160_000, 500), "currency": "EUR"}
        return self._update(
            key, {"attributes": {"notice_period_days": days, "salary_expectation": salary}}
        )

    def _correct_contact(self, key: Key) -> OutgoingCommand:
        number = phone(self._choice, self._choice.choice(REGIONS))
        return self._update(key, {"phone": self._choice.choice((None, number))})

    def _merge(self, key: Key) -> OutgoingCommand:
        """From a version ago: merged, or a conflict where the fields overlap."""
        return self._update(
            key,
            {"rating": self._choice.randint(1, 5)},
            expected_version=max(self._versions.get(key, 1) - 1, 1),
            on_conflict="merge",
        )

    def _quarrel(self, key: Key) -> OutgoingCommand:
        """Two recruiters, one candidate: the second comes too late, or insists."""
        return self._update(
            key,
            {"status": self._choice.choice(("rejected", "offer"))},
            expected_version=max(self._versions.get(key, 1) - 1, 1),
            on_conflict=self._choice.choice(("reject", "overwrite")),
        )

    def _mistake(self, key: Key) -> OutgoingCommand:
        return self._update(key, self._choice.choice(({"rating": 11}, {"phone": "call me"})))

    def _stranger(self, key: Key) -> OutgoingCommand:
        return self._update((key[0], str(uuid4())), {"status": "contacted"})

    def _newcomer(self, key: Key) -> OutgoingCommand:
        number = self._candidates_total + self._choice.randrange(1_000_000)
        return OutgoingCommand.create(
            organization_id=key[0],
            candidate_id=uuid4(),
            candidate=self._people.candidate(number),
            actor=self._choice.choice(_ACTORS),
            source=SOURCE,
        )

    def _resend(self, key: Key) -> OutgoingCommand:
        return self._previous or self._rate(key)

    def _update(self, key: Key, changes: Any, **how: Any) -> OutgoingCommand:
        return OutgoingCommand.update(
            organization_id=key[0],
            candidate_id=key[1],
            changes=changes,
            actor=self._choice.choice(_ACTORS),
            source=SOURCE,
            **how,
        )


async def _stopped(stop: asyncio.Event, *, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
