"""What a doctor says: one line for each thing looked at, how it is, and what to do about it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["OK", "WARN", "FAIL"]
Fault = Literal["away", "configuration", "service"]
"""Of a FAIL: a dependency does not answer, is not as we need it, or the service stands still."""


@dataclass(frozen=True, slots=True)
class Line:
    """One finding; `remedy` is what a person can do now."""

    check: str
    status: Status
    said: str
    remedy: str | None = None
    fault: Fault | None = None


@dataclass(slots=True)
class Diagnosis:
    """Collects lines, and tells each as it comes: the next look may take a while."""

    tell: Callable[[Line], None]
    lines: list[Line] = field(default_factory=list)

    def add(self, lines: Iterable[Line]) -> None:
        """More lines."""
        for line in lines:
            self.lines.append(line)
            self.tell(line)

    @property
    def fault(self) -> Fault | None:
        """The gravest: what is away hides what is wrong behind it."""
        faults = {line.fault for line in self.lines if line.status == "FAIL"}
        order: tuple[Fault, ...] = ("away", "configuration", "service")
        return next((each for each in order if each in faults), None)


def ok(check: str, said: str) -> Line:
    """All is well."""
    return Line(check, "OK", said)


def warn(check: str, said: str, remedy: str) -> Line:
    """It works, and should be looked at by day."""
    return Line(check, "WARN", said, remedy)


def fail(check: str, said: str, remedy: str, fault: Fault) -> Line:
    """It does not work, or will not for long."""
    return Line(check, "FAIL", said, remedy, fault)


def graded(
    check: str, said: str, remedy: str, *, value: float, warn_at: float, fail_at: float
) -> Line:
    """A figure of the service that is the worse the larger it is."""
    if value >= fail_at:
        return fail(check, said, remedy, "service")
    return warn(check, said, remedy) if value >= warn_at else ok(check, said)


def span(seconds: float) -> str:
    """A time for a person."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
