"""Redrives many dead letters: first one, then ten, then the rest, no faster than asked.

Every wave is followed to its end before the next one starts; if too large a share of all that was
sent has failed, nothing more is. Letters that die in the campaign are not part of it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from audit.dead_letters import PAGE_LETTERS_MAX, Filter, Letter, UnknownLetter, read_page
from audit.operators import Operators
from audit.redrive import FAILED, Redriven, RedriveRefused, Redrives

CANARY = (1, 10)
WAVE_LETTERS_MAX = 100
LISTED_MAX = 20
"""Failures named in a summary; the counts say how many there are."""

Report = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast, and how much may fail.

    Attributes:
        per_second: records sent.
        failures_share_max: of all that were sent so far.
        wait: for the outcomes of a wave.
    """

    per_second: float = 50.0
    failures_share_max: float = 0.1
    wait: timedelta = timedelta(seconds=60)


@dataclass(slots=True)
class Summary:
    """What became of a campaign; `stopped` says why it did not go on to its end."""

    outcomes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    failures: list[Redriven] = field(default_factory=list)
    stopped: str | None = None

    @property
    def sent(self) -> int:
        """Letters that were sent, or tried to be."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Those that count against it."""
        return sum(self.outcomes[outcome] for outcome in FAILED)

    def add(self, ended: Sequence[Redriven]) -> None:
        """One wave more."""
        self.outcomes.update(each.outcome for each in ended)
        room = LISTED_MAX - len(self.failures)
        self.failures += [each for each in ended if each.failed][:room]


@dataclass(slots=True)
class Plan:
    """What a campaign would send."""

    letters: int = 0
    record_bytes: int = 0
    redriven_before: int = 0
    codes: Counter[str] = field(default_factory=Counter)


async def planned(letters: AsyncIterator[Letter]) -> Plan:
    """Look at each, send none."""
    plan = Plan()
    async for letter in letters:
        plan.letters += 1
        plan.record_bytes += letter.record_bytes
        plan.redriven_before += letter.redrives_total > 0 or letter.redrive_of is not None
        plan.codes[letter.error_code] += 1
    return plan


async def queued(operators: Operators, wanted: Filter) -> AsyncIterator[Letter]:
    """The letters that are in the queue now, oldest first."""
    now = datetime.now(UTC)
    bounded = replace(wanted, until=min(wanted.until or now, now))
    after = None
    while page := await read_page(operators, bounded, after=after, letters_max=PAGE_LETTERS_MAX):
        for letter in page:
            yield letter
        after = page[-1].place


async def redrive_all(
    redrives: Redrives,
    letters: AsyncIterator[Letter],
    *,
    again: bool,
    pace: Pace,
    report: Report = lambda _: None,
) -> Summary:
    """Send all of them, wave by wave, unless too many fail."""
    summary = Summary()
    done = 0
    for letters_max in _waves():
        wave, done = await _send_wave(
            redrives, letters, letters_max, again=again, pace=pace, summary=summary,
            report=report, done=done,
        )  # fmt: skip
        if not wave:
            return summary
        summary.add(await redrives.followed(wave, within=pace.wait))
        if summary.failed > pace.failures_share_max * summary.sent:
            summary.stopped = (
                f"{summary.failed} of {summary.sent} failed, "
                f"more than {pace.failures_share_max:.0%}"
            )
            return summary
    return summary


async def _send_wave(
    redrives: Redrives,
    letters: AsyncIterator[Letter],
    letters_max: int,
    *,
    again: bool,
    pace: Pace,
    summary: Summary,
    report: Report,
    done: int,
) -> tuple[list[Redriven], int]:
    wave: list[Redriven] = []
    while len(wave) < letters_max:
        letter = await anext(letters, None)
        if letter is None:
            break
        try:
            wave.append(await redrives.send(letter.id, again=again))
        except RedriveRefused as refused:
            summary.skipped[refused.why] += 1
        except UnknownLetter:
            summary.skipped["unknown"] += 1
        else:
            await asyncio.sleep(1 / pace.per_second)
        done += 1
        report(done)
    return wave, done


def _waves() -> Iterator[int]:
    yield from CANARY
    while True:
        yield WAVE_LETTERS_MAX
