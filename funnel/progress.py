"""Progress of long work, on stderr: a bar on a terminal, now and then a line otherwise."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import typer

LINE_EVERY_SECONDS = 5.0
"""Often enough to see that it moves, seldom enough for a log."""

Report = Callable[[int], None]


@contextmanager
def progress(what: str, total: int) -> Iterator[Report]:
    """Takes how much is done, of `total`."""
    if sys.stderr.isatty():
        with _bar(what, total) as report:
            yield report
    else:
        yield _lines(what, total)


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
def progress_of(what: str) -> Iterator[Callable[[int, int], None]]:
    """Takes how much is done, and of how much: that is known once the work has begun."""
    with ExitStack() as shown:
        report: list[Report] = []

        def told(done: int, total: int) -> None:
            if not report:
                report.append(shown.enter_context(progress(what, total)))
            report[0](done)

        yield told


def _lines(what: str, total: int) -> Report:
    began_at = told_at = time.monotonic()

    def report(done: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= LINE_EVERY_SECONDS:
            told_at = time.monotonic()
            rate = done / (told_at - began_at)
            left = f", {(total - done) / rate:.0f} s left" if rate else ""
            typer.echo(f"{what}: {done:,} of {total:,}, {rate:,.0f}/s{left}", err=True)

    return report


@contextmanager
def _bar(what: str, total: int) -> Iterator[Report]:
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
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
