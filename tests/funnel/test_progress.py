"""How long work is shown: a bar with its rate and what is left, or now and then a line of it."""

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from funnel.cli.progress import progress, progress_of
from tests.funnel.processes import all_of, text_of

BAR = """
import time
from funnel.cli.progress import progress_of

with progress_of("verify") as report:
    for done in (1000, 2000, 3000, 4000):
        report(done, 8000)
        time.sleep(0.15)
    report(7000, 10000)
"""


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the clock, in seconds."""
    clock: dict[str, Any] = {"now": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    return lambda seconds: clock.update(now=seconds)


def test_progress__a_line_now_and_then_with_rate_and_what_is_left(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("sending", 10_000) as report:
        for second in range(12):
            at(second)
            report(500 * second)
    assert capsys.readouterr().err.splitlines() == [
        "sending: 2,500 of 10,000, 500/s, 15 s left",
        "sending: 5,000 of 10,000, 500/s, 10 s left",
    ]


def test_progress_of__what_an_earlier_run_had_done_is_no_speed_of_this_one(
    at: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_of("verify") as report:
        at(100)
        report(900_000, 1_000_000)
        at(105)
        report(910_000, 1_000_000)
        at(110)
        report(920_000, 1_040_000)  # consumers go on meanwhile
    assert capsys.readouterr().err.splitlines() == [
        "verify: 910,000 of 1,000,000, 2,000/s, 45 s left",
        "verify: 920,000 of 1,040,000, 2,000/s, 60 s left",
    ]


def test_progress_of__nothing_reported_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_of("verify"):
        pass
    assert capsys.readouterr() == ("", "")


def test_progress_of__a_terminal_gets_a_bar_with_rate_and_what_is_left() -> None:
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BAR],
        stderr=its_end,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(its_end)
    shown = all_of(terminal)
    assert process.wait() == 0
    text = text_of(shown)
    assert re.search(r"verify .*━.* \d000/8000 +[\d,]+/s 0:00:0\d", text), text
    assert re.search(r"verify .*━.* 7000/10000 ", text), text
    assert shown.rstrip().endswith("\x1b[2K")  # and leaves nothing behind
