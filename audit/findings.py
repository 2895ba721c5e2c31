"""What a verification finds: every difference counted, the first ones listed.

A difference names its place and what is wrong in words without personal data, unless values were
asked for; memory does not grow with the number of differences.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

LISTED_MAX = 100
"""Enough to see the pattern of a fault; the totals say how far it goes."""

SET_APART = ("backlog", "compacted", "expired", "behind_the_cut")
"""What is no difference, and is told beside them."""

Check = Literal[
    "state", "versions", "sequences", "journal", "identities", "operations", "output", "export",
    "replay", "chain",
]  # fmt: skip

Report = Callable[[int, int], None]
"""Called with how many rows are done, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as it must be."""

    check: Check
    where: str
    expected: str
    found: str


@dataclass(slots=True)
class Findings:
    """Collects the differences of one run.

    Attributes:
        listed: the first `LISTED_MAX`.
        totals: all of them, by check.
        rows: how many of what were looked at.
        backlog: results that are settled and not yet published.
        compacted: changes that compaction has removed, as it may.
        expired: results and dead letters that retention has removed, as it may.
        behind_the_cut: records of the output whose months of the journal were dropped.
    """

    listed: list[Difference] = field(default_factory=list)
    totals: Counter[Check] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    backlog: int = 0
    compacted: int = 0
    expired: int = 0
    behind_the_cut: int = 0

    @property
    def total(self) -> int:
        """How many differences there are."""
        return self.totals.total()

    @property
    def full(self) -> bool:
        """Are further differences only counted?"""
        return len(self.listed) >= LISTED_MAX

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Findings":
        """As they were told."""
        return cls(
            listed=[Difference(**each) for each in told["listed"]],
            totals=Counter(told["totals"]),
            rows=Counter(told["rows"]),
            **{name: told.get(name, 0) for name in SET_APART},
        )

    def told(self) -> dict[str, Any]:
        """All of them in JSON's types."""
        return {
            "listed": [asdict(each) for each in self.listed],
            "totals": dict(self.totals),
            "rows": dict(self.rows),
            **{name: getattr(self, name) for name in SET_APART},
        }

    def merge(self, part: "Findings") -> None:
        """All that a part of the run has found."""
        self.listed += part.listed[: LISTED_MAX - len(self.listed)]
        self.totals += part.totals
        self.rows += part.rows
        for name in SET_APART:
            setattr(self, name, getattr(self, name) + getattr(part, name))

    def add(self, check: Check, where: str, *, expected: object, found: object) -> None:
        """One difference more."""
        self.totals[check] += 1
        if not self.full:
            self.listed.append(
                Difference(check=check, where=where, expected=str(expected), found=str(found))
            )


@dataclass(slots=True)
class Meter:
    """How far a run has got, over all of its checks. Consumers that go on make it longer."""

    total: int
    report: Report
    done: int = 0

    def advance(self, rows: int) -> None:
        """So many rows more."""
        self.done += rows
        self.total = max(self.total, self.done)
        self.report(self.done, self.total)
