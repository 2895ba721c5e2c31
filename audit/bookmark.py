"""How far a verification has got, so that one that was cut short goes on there.

The place of each walk is remembered with all that was found up to these places, so that nothing is
counted twice and nothing is left out. Written now and then, and when it is cut short; gone once it
is through.
"""

import time
from pathlib import Path
from typing import Any

import orjson

from audit.findings import Findings

WRITE_EVERY_SECONDS = 5.0
"""What is lost at most to a kill; a run that is shorter leaves no file."""


class BookmarkRefused(Exception):
    """There is nothing to go on with, or it was another verification."""


class Bookmark:
    """The places and findings of one run.

    Args:
        path: of the file; None: nothing is remembered.
        asked: what is verified: another one cannot go on with it.

    Attributes:
        findings: of this run and those before it that were cut short.
    """

    def __init__(self, path: Path | None, asked: dict[str, Any]) -> None:
        self._path = path
        self._asked = asked
        self._places: dict[str, Any] = {}
        self.findings = Findings()
        self._found = self.findings.told()
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
        self._places, self._found = told["places"], told["findings"]
        self.findings = Findings.of(self._found)

    def place(self, walk: str) -> Any:
        """Where this walk was, None if it has not begun."""
        return self._places.get(walk)

    def reached(self, walk: str, place: Any) -> None:
        """All before this place is done, and what was found in it is in the findings."""
        self._places[walk] = place
        self._found = self.findings.told()
        if time.monotonic() - self._written_at >= WRITE_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        """Replace the file as a whole."""
        self._written_at = time.monotonic()
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_name(self._path.name + ".new")
        unfinished.write_bytes(
            orjson.dumps({"asked": self._asked, "places": self._places, "findings": self._found})
        )
        unfinished.replace(self._path)

    def forget(self) -> None:
        """The run is through."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
