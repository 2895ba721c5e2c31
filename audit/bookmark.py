"""How far a verification has got, so that one that was cut short goes on there.

Each side of it (two run at once) is remembered with what it has found up to that place, so that
nothing is counted twice and nothing is left out. Written now and then, and when it is cut short;
gone once it is through.
"""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from audit.findings import LISTED_MAX, Difference, Findings

WRITE_EVERY_SECONDS = 5.0
"""What is lost at most to a kill; a run that is shorter leaves no file."""

_SET_APART = ("backlog", "compacted", "expired")


class BookmarkRefused(Exception):
    """There is nothing to go on with, or it was another verification."""


class Bookmark:
    """The places and findings of one run.

    Args:
        path: of the file; None: nothing is remembered.
        asked: what is verified: another one cannot go on with it.
    """

    def __init__(self, path: Path | None, asked: dict[str, Any]) -> None:
        self._path = path
        self._asked = asked
        self._sides: dict[str, dict[str, Any]] = {}
        self._written_at = time.monotonic()

    def resume(self) -> None:
        """Take up what an earlier run has left.

        Raises:
            BookmarkRefused: see there.
        """
        if self._path is None or not self._path.exists():
            raise BookmarkRefused("No verification was cut short here: run it without --resume.")
        told = orjson.loads(self._path.read_bytes())
        if told["asked"] != self._asked:
            raise BookmarkRefused("The verification that was cut short had other options.")
        self._sides = told["sides"]

    def side(self, name: str) -> "Side":
        """One of the parts that run at once."""
        return Side(self, self._sides.setdefault(name, {"places": {}, "findings": None}))

    def remember(self) -> None:
        """Now and then, write."""
        if time.monotonic() - self._written_at >= WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Replace the file as a whole."""
        self._written_at = time.monotonic()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".new")
        unfinished.write_bytes(orjson.dumps({"asked": self._asked, "sides": self._sides}))
        unfinished.replace(self._path)

    def forget(self) -> None:
        """The run is through."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class Side:
    """The checks that follow one another, and what they have found together.

    Attributes:
        findings: of this run and those before it that were cut short.
    """

    def __init__(self, bookmark: Bookmark, told: dict[str, Any]) -> None:
        self._bookmark = bookmark
        self._told = told
        self.findings = _findings(told["findings"])

    def place(self, check: str) -> Any:
        """Where this check was, None if it has not begun."""
        return self._told["places"].get(check)

    def reached(self, check: str, place: Any) -> None:
        """All before this place is done, and what was found in it is in the findings."""
        self._told["places"][check] = place
        self._told["findings"] = _told(self.findings)
        self._bookmark.remember()


def merged(*parts: Findings) -> Findings:
    """All that was found, on every side."""
    whole = Findings()
    for part in parts:
        whole.listed = (whole.listed + part.listed)[:LISTED_MAX]
        whole.totals += part.totals
        whole.rows += part.rows
        whole.backlog += part.backlog
        whole.compacted += part.compacted
        whole.expired += part.expired
    return whole


def _told(findings: Findings) -> dict[str, Any]:
    return {
        "listed": [asdict(each) for each in findings.listed],
        "totals": dict(findings.totals),
        "rows": dict(findings.rows),
        **{name: getattr(findings, name) for name in _SET_APART},
    }


def _findings(told: dict[str, Any] | None) -> Findings:
    if told is None:
        return Findings()
    return Findings(
        listed=[Difference(**each) for each in told["listed"]],
        totals=Counter(told["totals"]),
        rows=Counter(told["rows"]),
        **{name: told[name] for name in _SET_APART},
    )
