"""Progress of long work, on stderr: a bar on a terminal, now and then a line otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import typer

LINE_EVERY_SECONDS = 5.0
"""Often enough to see that it moves, seldom enough for a log."""

Report = Callable[[int], None]
ReportOf = Callable[[int, int], None]


@contextmanager
def progress(what: str, total: int) -> Iterator[Report]:
    """Takes how much is done, of `total`."""
    with _shown(what) as report:
        yield lambda done: report(done, total)


@contextmanager
def counting(what: str, unit: str) -> Iterator[Report]:
    """Takes how much is done, where nobody knows of how much."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what) as shown:
            yield lambda done: shown.update(f"{what}: {done:,} {unit}")
        return
    told_at = time.monotonic()

    def report(done: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= LINE_EVERY_SECONDS:
            told_at = time.monotonic()
            typer.echo(f"{what}: {done:,} {unit}", err=True)

    yield report


@contextmanager
def progress_of(what: str) -> Iterator[ReportOf]:
    """Takes how much is done, and of how much: that is known once the work has begun, and may
    change."""
    with ExitStack() as shown:
        report: list[ReportOf] = []

        def told(done: int, total: int) -> None:
            if not report:
                report.append(shown.enter_context(_shown(what)))
            report[0](done, total)

        yield told


@contextmanager
def _shown(what: str) -> Iterator[ReportOf]:
    if sys.stderr.isatty():
        with _bar(what) as report:
            yield report
    else:
        yield _lines(what)


def _lines(what: str) -> ReportOf:
    began_at = told_at = time.monotonic()
    before: int | None = None

    def report(done: int, total: int) -> None:
        nonlocal began_at, told_at, before
        now = time.monotonic()
        if before is None:  # an earlier run that was cut short may have done most of it
            before, began_at, told_at = done, now, now
        if now - told_at >= LINE_EVERY_SECONDS:
            told_at = now
            rate = (done - before) / (now - began_at)
            left = f", {max(0, total - done) / rate:.0f} s left" if rate else ""
            typer.echo(f"{what}: {done:,} of {total:,}, {rate:,.0f}/s{left}", err=True)

    return report


@contextmanager
def _bar(what: str) -> Iterator[ReportOf]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:,.0f}/s" if task.speed else ""

    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
